"""The shipped policies keep the contract; a new one joins by its configuration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from vitmalis.errors import UserError
from vitmalis.offload import OffloadDecision
from vitmalis.policy import POLICIES, ClientState, Policy, build_policy
from vitmalis.testing import PolicyContract
from vitmalis.testing.policy_contract import state
from vitmalis_jobs.run.config import typed

CONF = Path(__file__).parents[2] / "conf"


class TestShippedPolicies(PolicyContract):
    @pytest.fixture(params=sorted(path.stem for path in (CONF / "policy").glob("*.yaml")))
    def build(self, request: pytest.FixtureRequest, vitmalis_options: dict[str, str]) -> Callable[[], Policy]:
        """Every shipped configuration of a policy, ablations included."""
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = typed(compose("evaluate", overrides=[f"policy={request.param}"]))
        files = vitmalis_options if "latency_tables" in config.policy_options else {}
        return lambda: build_policy(config.policy_kind, **(config.policy_options | files))


class TestPoliciesThatEstimateAhead(PolicyContract):
    @pytest.fixture(params=["freshness", "vitmalis"])
    def build(self, request: pytest.FixtureRequest, vitmalis_options: dict[str, str]) -> Callable[[], Policy]:
        return lambda: build_policy(request.param, estimate_ahead=True, **vitmalis_options)


class TestPoliciesThatMayCacheRegions(PolicyContract):
    @pytest.fixture(params=["freshness", "vitmalis"])
    def build(self, request: pytest.FixtureRequest, vitmalis_options: dict[str, str]) -> Callable[[], Policy]:
        options = {"cached_regions": True, "cached_f1_loss": 0.0, "estimate_ahead": True}
        return lambda: build_policy(request.param, **options, **vitmalis_options)


def test_every_known_policy_has_a_configuration() -> None:
    kinds = set()
    for path in (CONF / "policy").glob("*.yaml"):
        with initialize_config_dir(str(CONF), version_base="1.3"):
            kinds.add(typed(compose("evaluate", overrides=[f"policy={path.stem}"])).policy_kind)
    assert kinds == set(POLICIES)


def test_unknown_policy_names_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"policy 'magic' is unknown: choose one of back2back, trackb2b"):
        build_policy("magic")


def test_unknown_option_is_one_clear_error() -> None:
    with pytest.raises(UserError, match="policy 'back2back' does not take these options"):
        build_policy("back2back", speed=3)


def test_an_option_of_the_wrong_type_is_named() -> None:
    with pytest.raises(UserError, match=r"policy 'trackud': latency_threshold_s=soon: Expected `float`"):
        build_policy("trackud", latency_threshold_s="soon")


def test_a_bug_in_a_constructor_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    class Buggy(Policy):
        def __init__(self, qualities: Sequence[int] = (90,)) -> None:
            self._best = len(max(qualities))  # type: ignore[arg-type]

        def decide(self, state: ClientState) -> OffloadDecision:
            raise NotImplementedError

    monkeypatch.setitem(POLICIES, "buggy", Buggy)
    with pytest.raises(TypeError, match="has no len"):
        build_policy("buggy", qualities=[80])


def test_baselines_use_the_papers_jpeg_quality() -> None:
    assert build_policy("back2back").decide(state(0)).configuration.quality == 95
    assert build_policy("trackb2b", quality=80).decide(state(0)).configuration.quality == 80
