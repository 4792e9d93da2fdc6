"""Names of metrics in MLflow: every metric of a run has one, and the important ones come first."""

from __future__ import annotations

from tests.run.page.small_run import FRAMES, OFFLOADS, REFERENCES
from vitmalis.metrics import MatchRule, summarise
from vitmalis.records import OffloadRecord
from vitmalis_jobs.common.machine_load import MachineLoad
from vitmalis_jobs.common.metric_names import MLFLOW_NAMES, OFFLOAD_CURVES, in_mlflow, mlflow_name
from vitmalis_jobs.run.disturbance import Disturbance

SECTIONS = {"f1", "masks", "frames", "latency", "traffic", "devices", "policy", "run", "sweep"}


def test_every_metric_of_a_run_has_a_name_of_its_own() -> None:
    metrics = summarise(FRAMES, OFFLOADS, REFERENCES, MatchRule()) | Disturbance(MachineLoad(0.1), 2.0).metrics
    assert {mlflow_name(name).partition("/")[0] for name in metrics} <= SECTIONS
    assert len(set(MLFLOW_NAMES.values())) == len(MLFLOW_NAMES)
    assert {name.partition("/")[0] for name in MLFLOW_NAMES.values()} == SECTIONS


def test_the_score_is_logged_first_whatever_comes_first_in_the_summary() -> None:
    metrics = {"frames": 120.0, "e2e_latency_s_median": 0.123456789, "inference_f1": 0.9, "rendering_f1": 0.5}
    assert list(in_mlflow(metrics).items()) == [
        ("f1/rendering", 0.5),
        ("f1/inference", 0.9),
        ("frames/played", 120.0),
        ("latency/e2e_median_s", 0.123457),
    ]


def test_other_metrics_keep_their_section_or_get_one() -> None:
    assert (mlflow_name("train/loss"), mlflow_name("loss")) == ("train/loss", "other/loss")
    assert mlflow_name("share_decided_urgent") == "policy/decided_urgent"


def test_curves_are_of_fields_that_an_offload_has() -> None:
    assert all(hasattr(OffloadRecord, field) or field in OffloadRecord.__slots__ for field in OFFLOAD_CURVES)
    assert {name.partition("/")[0] for name, _ in OFFLOAD_CURVES.values()} == {"offload"}
