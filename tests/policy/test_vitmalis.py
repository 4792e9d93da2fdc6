"""ViTMAlis and its region-aware baselines with synthetic tables and estimators, whose right decisions are known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hydra import compose, initialize_config_dir

from vitmalis.errors import UserError
from vitmalis.estimation import LatencyTablesMissing, load_latency_tables, save_latency_tables
from vitmalis.estimation.decay import AGES_S, F1, F1ByAge
from vitmalis.explanation import DecisionExplanation
from vitmalis.offload import OffloadOutcome
from vitmalis.policy import ClientState, build_policy
from vitmalis.regions import Motion, RegionGrid, RegionType
from vitmalis.types import Configuration, Detections
from vitmalis_jobs.run.config import typed

CONF = Path(__file__).parents[2] / "conf"
GRID = RegionGrid(960, 540, window=5)
ROWS, COLS = GRID.shape

DOR, CMR = (0, 0), (1, 2)
"""The only regions that move; the first has an object in it."""


def state(**changes: object) -> ClientState:
    region_motion = np.zeros(GRID.shape, np.float32)
    region_motion[DOR] = region_motion[CMR] = 0.5
    known = {
        "frame_index": 9,
        "grid": GRID,
        "frame_interval_s": 1 / 30,
        "time_s": 0.3,
        "frames_since_offload": 9,
        "tracked": Detections.of([[10, 10, 60, 90]], [0.8], [0]),
        "motion": Motion(region_motion, 0.1),
        "results": 1,
    }
    return ClientState(**(known | changes))  # type: ignore[arg-type]


def outcome(uplink_mbps: float, e2e_latency_s: float = 0.6) -> OffloadOutcome:
    decision = build_policy("trackb2b").decide(state())
    return OffloadOutcome(
        0, decision, 100_000, 0.01, 0.005, 0.4, transfer_s=0.8 / uplink_mbps, rtt_s=0.04, e2e_latency_s=e2e_latency_s
    )


def test_before_the_first_result_every_region_keeps_its_resolution(vitmalis_options: dict) -> None:
    for unknown in ({"results": 0}, {"motion": None}):
        decision = build_policy("vitmalis", **vitmalis_options).decide(state(**unknown))
        assert (decision.configuration.tau_d, decision.downsample_mask) == (0, None)
        assert decision.explanation is not None
        assert (decision.explanation.region_types == RegionType.DOR).all()
        assert len(decision.explanation.tau_d) == 7, "only what can be is weighed"


def test_every_configuration_is_weighed_and_equation_2_adds_up(vitmalis_options: dict) -> None:
    policy = build_policy("vitmalis", **vitmalis_options)
    policy.observe(outcome(uplink_mbps=4.0))
    e = policy.decide(state()).explanation
    assert e is not None
    assert len(e.tau_d) == 77
    assert (e.uplink_mbps, e.rtt_s) == (pytest.approx(4.0), pytest.approx(0.04))
    at = int(np.flatnonzero((e.tau_d == 1) & (e.quality == 100) & (e.restoration_point == 2))[0])
    # One region downsampled, which holds half of the motion: the laws of small_world.py by hand.
    payload_bytes = -60_000 - 2000 - 20_000 * 0.5 + 10_000 * 0.1 + 1500 * 100
    assert e.payload_bytes[at] == pytest.approx(payload_bytes, rel=1e-5)
    encode_s = 0.004 + 100 * 4e-5 - 1 * 1e-4  # synthetic_tables.py, interpolated between 0 and 4 regions
    assert e.e2e_latency_s[at] == pytest.approx(encode_s + payload_bytes * 8e-6 / 4 + 0.005 + 0.4 - 0.004 + 0.04)
    assert e.f1[at] == pytest.approx(0.65 + 0.3 - 0.02 - 0.004 - 0.05, rel=1e-5)


def test_what_was_chosen_is_what_the_decision_says(vitmalis_options: dict) -> None:
    decision = build_policy("vitmalis", **vitmalis_options).decide(state(retention=0.1))
    e, configuration = decision.explanation, decision.configuration
    assert e is not None
    assert e.reason == "retention"
    assert e.chosen == e.frontier[0]
    assert e.e2e_latency_s[e.chosen] == e.e2e_latency_s.min()
    chosen = Configuration(int(e.tau_d[e.chosen]), int(e.quality[e.chosen]), int(e.restoration_point[e.chosen]))
    assert configuration == chosen
    assert configuration.tau_d == 2, "the lowest latency of this world downsamples all it may"
    mask = decision.downsample_mask
    assert mask is not None
    assert mask.sum() == ROWS * COLS - 1
    assert not mask[DOR]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "knee"),
        ({"frames_since_offload": 30}, "knee"),
        ({"frames_since_offload": 31}, "stale"),
        ({"retention": 0.69}, "retention"),
    ],
)
def test_urgency_decides_between_knee_and_lowest_latency(vitmalis_options: dict, changes: dict, reason: str) -> None:
    e = build_policy("vitmalis", **vitmalis_options).decide(state(**changes)).explanation
    assert e is not None
    assert e.reason == reason
    assert e.chosen == (e.knee if reason == "knee" else e.frontier[0])


def test_boxes_that_are_likely_wrong_make_an_offload_urgent_unless_the_papers_rule_is_asked_for(
    vitmalis_options: dict,
) -> None:
    curve = {"decay_ages_s": [0, 1], "decay_f1": [1.0, 0.6]}
    for rule, reason, retention in (("robust", "retention", 0.6), ("paper", "knee", 1.0)):
        policy = build_policy("vitmalis", rule=rule, **curve, **vitmalis_options)
        e = policy.decide(state(result_age_frames=30)).explanation
        assert e is not None
        assert (e.reason, e.retention) == (reason, pytest.approx(retention))


def test_the_papers_rule_weighs_gains_that_the_robust_one_takes_for_ties(vitmalis_options: dict) -> None:
    sizes = {}
    for rule in ("robust", "paper"):
        e = build_policy("vitmalis", rule=rule, f1_tie=0.04, **vitmalis_options).decide(state()).explanation
        assert e is not None
        sizes[rule] = len(e.frontier)
        gains = np.diff(e.f1[e.frontier])
        assert (gains > (0.04 if rule == "robust" else 0)).all()
    assert sizes["robust"] < sizes["paper"]


def test_an_empty_frame_of_moving_objects_has_nothing_to_downsample(vitmalis_options: dict) -> None:
    everywhere = Motion(np.full(GRID.shape, 1 / 24, np.float32), 0.5)
    covering = Detections.of([[0, 0, 960, 540]], [0.9], [2])
    decision = build_policy("vitmalis", **vitmalis_options).decide(state(motion=everywhere, tracked=covering))
    assert decision.downsample_mask is None
    assert (decision.configuration.tau_d, decision.configuration.restoration_point) == (0, 0)


@pytest.mark.parametrize(("weight", "factor"), [(0.0, 1.0), (1.0, 1.5), (0.5, 1.5**0.5)])
def test_size_correction_learns_from_payloads_when_asked_to(
    vitmalis_options: dict, weight: float, factor: float
) -> None:
    policy = build_policy("vitmalis", size_correction=weight, **vitmalis_options)
    first = policy.decide(state())
    assert first.explanation is not None
    estimated_bytes = first.explanation.payload_bytes[first.explanation.chosen]
    seen = OffloadOutcome(0, first, round(1.5 * estimated_bytes), 0.01, 0.005, 0.4, 0.2, 0.04, 0.6)
    policy.observe(seen)
    second = policy.decide(state()).explanation
    assert second is not None
    assert second.payload_bytes == pytest.approx(first.explanation.payload_bytes * factor, rel=1e-4)


@pytest.mark.parametrize(("weight", "factor"), [(1.0, 1.5), (0.5, 1.5**0.75)])
def test_size_correction_of_two_offloads_in_flight_counts_what_each_was_estimated_with(
    vitmalis_options: dict, weight: float, factor: float
) -> None:
    policy = build_policy("vitmalis", size_correction=weight, **vitmalis_options)
    decisions = [policy.decide(state()), policy.decide(state())]
    for decision in decisions:
        assert decision.explanation is not None
        estimated_bytes = decision.explanation.payload_bytes[decision.explanation.chosen]
        policy.observe(OffloadOutcome(0, decision, round(1.5 * estimated_bytes), 0.01, 0.005, 0.4, 0.2, 0.04, 0.6))
    first, third = decisions[0].explanation, policy.decide(state()).explanation
    assert first is not None
    assert third is not None
    assert third.payload_bytes == pytest.approx(first.payload_bytes * factor, rel=1e-4)


def test_decay_of_an_offload_is_learned_from_the_result_that_was_known_at_its_decision(vitmalis_options: dict) -> None:
    policy = build_policy("vitmalis", **vitmalis_options)
    decisions = [policy.decide(state()), policy.decide(state())]
    seen = OffloadOutcome(0, decisions[0], 50_000, 0.01, 0.005, 0.4, 0.2, 0.04, 0.6)
    policy.observe(seen)
    policy.observe(replace(seen, decision=decisions[1], agreement=0.5, agreement_age_s=0.3, agreement_frame_index=0))
    second, third = decisions[1].explanation, policy.decide(state(result_age_frames=30)).explanation
    assert second is not None
    assert third is not None
    decay = F1ByAge(AGES_S, F1)
    decay.observe(0.5, 0.3, expected=second.f1[second.chosen] ** 0.5)
    assert third.retention == pytest.approx(float(decay.at(1.0)))


def ablated(name: str, options: dict) -> DecisionExplanation:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = typed(compose("evaluate", overrides=[f"policy={name}"]))
    assert config.policy_name == name
    arguments = json.loads(json.dumps(config.policy_options)) | options  # as through a session file
    explanation = build_policy(config.policy_kind, **arguments).decide(state()).explanation
    assert explanation is not None
    return explanation


def test_wo_regtype_downsamples_all_background_or_nothing(vitmalis_options: dict) -> None:
    e = ablated("wo_regtype", vitmalis_options)
    assert set(e.tau_d) == {0, 2}


def test_wo_dynares_restores_before_the_last_subset_only(vitmalis_options: dict) -> None:
    e = ablated("wo_dynares", vitmalis_options)
    assert set(e.restoration_point[e.tau_d > 0]) == {4}
    assert set(e.restoration_point[e.tau_d == 0]) == {0}


def test_wo_mlps_does_not_look_at_the_frame(vitmalis_options: dict) -> None:
    static, full = ablated("wo_mlps", vitmalis_options), ablated("vitmalis", vitmalis_options)
    assert len(static.tau_d) == len(full.tau_d) == 77
    same = (static.tau_d == 2) & (static.quality == 90)
    assert len(set(static.payload_bytes[same])) == 1
    assert not np.allclose(static.payload_bytes, full.payload_bytes)


def test_missing_tables_and_estimators_name_the_job_that_makes_them(vitmalis_options: dict, tmp_path: Path) -> None:
    with pytest.raises(LatencyTablesMissing, match=r"python -m profiling.latency"):
        build_policy("vitmalis", estimators=vitmalis_options["estimators"])
    with pytest.raises(UserError, match=r"no-such.json: .*python -m profiling.latency"):
        build_policy("vitmalis", **(vitmalis_options | {"latency_tables": str(tmp_path / "no-such.json")}))
    with pytest.raises(UserError, match=r"python -m training.estimators"):
        build_policy("vitmalis", **(vitmalis_options | {"estimators": str(tmp_path)}))


def test_tables_of_another_model_are_refused(vitmalis_options: dict, tmp_path: Path) -> None:
    own = load_latency_tables(Path(vitmalis_options["latency_tables"]))
    save_latency_tables(msgspec.structs.replace(own, model="vitdet_l"), tmp_path / "tables.json")
    with pytest.raises(UserError, match="measured with model 'vitdet_l', not 'vitdet_tiny'"):
        build_policy("vitmalis", **(vitmalis_options | {"latency_tables": str(tmp_path / "tables.json")}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tau_ds": [1, 2]}, r"policy.tau_ds=\[1, 2\]: it must contain 0"),
        ({"knee": "elbow"}, "policy.knee=elbow"),
        ({"rule": "majority"}, "policy.rule=majority: choose one of robust, paper"),
        ({"f1_tie": 2}, "policy.f1_tie=2"),
        ({"f1_span": -1}, "policy.f1_span=-1"),
        ({"decay_f1": [0.5]}, r"policy.decay_f1=\[0.5\]"),
        ({"model": "vitdet_l"}, "are for model 'vitdet_tiny', not 'vitdet_l'"),
        ({"size_correction": 2}, "policy.size_correction=2"),
        ({"motion_threshold": -1}, "policy.motion_threshold=-1"),
        ({"restoration_points": [7]}, "restoration points"),
    ],
)
def test_invalid_options_are_errors_before_anything_plays(vitmalis_options: dict, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_policy("vitmalis", **(vitmalis_options | options))


def test_fixed_downsamples_by_region_type_and_sends_the_rest_plainly() -> None:
    policy = build_policy("fixed", tau_d=1, quality=80, restoration_point=3)
    decision = policy.decide(state())
    assert decision.configuration == Configuration(1, 80, 3)
    assert decision.downsample_mask is not None
    assert np.argwhere(decision.downsample_mask).tolist() == [list(CMR)]
    for unknown in ({"results": 0}, {"motion": None}):
        plain = policy.decide(state(**unknown))
        assert (plain.configuration, plain.downsample_mask) == (Configuration(0, 80, 0), None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tau_d": 3}, "policy.tau_d=3: choose one of 0, 1, 2"),
        ({"quality": 0}, "policy.quality=0"),
        ({"restoration_point": -1}, "policy.restoration_point=-1"),
    ],
)
def test_fixed_refuses_what_is_no_configuration(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_policy("fixed", **options)


def test_trackroi_blanks_what_is_no_moving_object() -> None:
    policy = build_policy("trackroi")
    assert policy.decide(state(results=0)).blank_mask is None
    decision = policy.decide(state())
    assert decision.configuration == Configuration(0, 95, 0)
    assert decision.blank_mask is not None
    assert np.argwhere(~decision.blank_mask).tolist() == [list(DOR)]


def test_trackroi_without_any_known_object_sends_the_whole_frame() -> None:
    assert build_policy("trackroi").decide(state(tracked=Detections.empty())).blank_mask is None


def test_trackud_halves_after_a_slow_offload_only() -> None:
    policy = build_policy("trackud")
    assert policy.decide(state()).frame_downsampling == 1
    for e2e_latency_s, factor in ((0.51, 2), (0.5, 1), (0.7, 2)):
        policy.observe(outcome(4.0, e2e_latency_s))
        assert policy.decide(state()).frame_downsampling == factor
