from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from vitmalis.network.traces import resolve_trace
from vitmalis.policy import POLICIES, build_policy
from vitmalis.tracker import TrackerOptions
from vitmalis_jobs.run.config import config_hash, flat, typed

CONF = Path(__file__).parents[1] / "conf"
GROUPS = ("video", "trace", "link", "model", "policy")
NEEDED = {"trace/file": ["trace.path=x.csv"], "video/file": ["video.path=x.mp4"]}
OPTIONS = [(group, path.stem) for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))]


def composed(*overrides: str) -> OmegaConf:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("evaluate", overrides=list(overrides))


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_composes_and_is_typed(group: str, option: str) -> None:
    config = typed(composed(f"{group}={option}", *NEEDED.get(f"{group}/{option}", [])))
    assert flat(config)


def test_every_group_has_options() -> None:
    assert {group for group, _ in OPTIONS} == set(GROUPS)


def test_the_trackers_defaults_are_those_of_the_library() -> None:
    assert typed(composed()).client.tracker == TrackerOptions()


def test_every_policy_has_a_config_that_builds_it() -> None:
    names = {option for group, option in OPTIONS if group == "policy"}
    assert names == {*POLICIES, "wo_regtype", "wo_mlps", "wo_dynares"}
    for name in names:
        config = typed(composed(f"policy={name}"))
        assert config.policy_name == name, "runs are called as they were asked for"
        if "latency_tables" in config.policy_options:
            parameters = inspect.signature(POLICIES[config.policy_kind]).parameters
            assert set(config.policy_options) == set(parameters), "every option is shown, none is unknown"
        else:
            assert isinstance(build_policy(config.policy_kind, **config.policy_options), POLICIES[name])


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("wo_regtype", {"tau_ds": [0, 2]}),
        ("wo_mlps", {"estimator": "mean"}),
        ("wo_dynares", {"restoration_points": [4]}),
    ],
)
def test_an_ablation_is_the_full_policy_with_one_part_replaced(name: str, changed: dict[str, object]) -> None:
    full, ablated = typed(composed("policy=vitmalis")), typed(composed(f"policy={name}"))
    assert ablated.policy_kind == "vitmalis"
    assert ablated.policy_options == full.policy_options | changed


def test_defaults_of_vitmalis_are_those_of_the_library() -> None:
    options = typed(composed("policy=vitmalis")).policy_options
    for parameter in inspect.signature(POLICIES["vitmalis"]).parameters.values():
        assert options[parameter.name] == (
            list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
        )


@pytest.mark.parametrize("option", [option for group, option in OPTIONS if group == "trace"])
def test_a_trace_config_holds_arguments_of_resolve_trace(option: str) -> None:
    config = typed(composed(f"trace={option}", *NEEDED.get(f"trace/{option}", [])))
    assert set(config.trace) <= set(inspect.signature(resolve_trace).parameters)


def test_the_hash_follows_what_was_asked_for() -> None:
    plain = config_hash(typed(composed()))
    assert plain == config_hash(typed(composed("mlflow.experiment=other", "output.film_seconds=0")))
    for change in (
        "policy=back2back",
        "eval.seconds=11",
        "trace.index=3",
        "client.tracker.grid=5",
        "policy.quality=80",
    ):
        assert config_hash(typed(composed(change))) != plain


def test_parameters_are_flat() -> None:
    parameters = flat(typed(composed()))
    assert parameters["policy.name"] == "trackb2b"
    assert parameters["client.tracker.scale"] == "0.5"
    assert not [key for key in parameters if key.startswith("mlflow")]
