"""Several devices on one server: where each begins, what their metrics are together, and a whole run of two."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.evaluation.tiny_sweep import make_clip
from vitmalis.errors import UserError
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.run.config import composed
from vitmalis_jobs.run.devices import combined, device_runs, jain
from vitmalis_jobs.run.directory import RunDirectory
from vitmalis_jobs.run.pipeline import run_evaluation
from vitmalis_jobs.run.prepare import prepare_run
from vitmalis_jobs.run.records import read_records
from vitmalis_jobs.run.resolve import resolve_run
from vitmalis_jobs.run.spec import PreparedRun

TRACE = ["trace=4g", "trace.index=0", "clock=virtual", "latency=paper_testbed"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("devices") / "clip.mp4"
    make_clip(path, frames=40)
    return path


def prepared(clip: Path, *overrides: str) -> PreparedRun:
    video = ["video=file", f"video.path={clip}", "eval.seconds=1"]
    return prepare_run(resolve_run(composed([*video, *TRACE, *overrides])), Terminal())


def test_further_devices_begin_elsewhere_and_alike_whatever_their_number_and_policy(clip: Path) -> None:
    run = prepared(clip, "devices.count=4")
    four = device_runs(run, Terminal())
    two = device_runs(prepared(clip, "devices.count=2", "policy=back2back"), Terminal())
    assert four[0] is run
    assert [own.clip.start_frame for own in two] == [own.clip.start_frame for own in four[:2]]
    assert [own.clip.frames for own in four] == [run.clip.frames] * 4
    assert {own.clip.start_frame for own in four} <= {0, 10, 20, 30}, "whole seconds that leave one to play"
    rates = [own.spec.trace.uplink_mbps.tolist() for own in four]
    assert rates[1] == two[1].spec.trace.uplink_mbps.tolist()
    assert len({tuple(own) for own in rates}) == 4
    assert [sorted(own) for own in rates[1:]] == [sorted(rates[0])] * 3, "the same trace from another second on"
    other = device_runs(prepared(clip, "devices.count=4", "devices.seed=1"), Terminal())
    assert [own.spec.trace.uplink_mbps.tolist() for own in other[1:]] != rates[1:]


def test_a_clip_with_nothing_left_over_begins_alike_for_all(clip: Path) -> None:
    runs = device_runs(prepared(clip, "devices.count=3", "eval.seconds=4"), Terminal())
    assert [own.clip for own in runs] == [runs[0].clip] * 3


def test_metrics_are_means_with_the_worst_device_and_fairness() -> None:
    each = [
        {"rendering_f1": 0.6, "e2e_latency_s_median": 0.4, "offloads": 10.0},
        {"rendering_f1": 0.2, "e2e_latency_s_median": 0.8, "offloads": 10.0, "inference_f1": 0.9},
    ]
    assert combined(each[:1]) == each[0]
    assert combined(each) == pytest.approx(
        {
            "rendering_f1": 0.4,
            "e2e_latency_s_median": 0.6,
            "offloads": 10.0,
            "inference_f1": 0.9,
            "devices": 2.0,
            "first_device_rendering_f1": 0.6,
            "first_device_e2e_latency_s_median": 0.4,
            "worst_device_rendering_f1": 0.2,
            "worst_device_e2e_latency_s_median": 0.8,
            "jain_rendering_f1": 0.8**2 / (2 * 0.4),
            "jain_offloads": 1.0,
        }
    )
    assert jain([1, 0, 0, 0]) == 0.25


def test_shares_of_reasons_add_up_over_devices() -> None:
    """The first decides by the knee alone, the second half of the time; the third has decided nothing."""
    each = [{"share_decided_knee": 1.0}, {"share_decided_knee": 0.5, "share_decided_stale": 0.5}, {"offloads": 0.0}]
    shares = combined(each)
    assert (shares["share_decided_knee"], shares["share_decided_stale"]) == (0.75, 0.25)


def test_several_devices_need_the_virtual_clock(clip: Path) -> None:
    with pytest.raises(UserError, match=r"devices\.count=2: a run in real time has one device; add clock=virtual"):
        resolve_run(composed(["video=file", f"video.path={clip}", "devices.count=2"]))


def small_run(clip: Path, folder: Path, *further: str) -> dict[str, float]:
    """Play a second of the clip on several devices, with the results in a folder; returns the metrics."""
    overrides = [
        *("video=file", f"video.path={clip}", "eval.seconds=1", "policy=trackb2b"),
        *("model.max_width=320", "model.max_height=192", "output.figures=false", "output.video_seconds=0"),
        *(f"mlflow.tracking_uri=sqlite:///{folder}/mlflow.db", f"mlflow.artifact_dir={folder}/artifacts"),
        f"sweep.index={folder}/index",
    ]
    return run_evaluation(composed([*overrides, *TRACE, *further]), RunDirectory(folder / "run"))


def test_a_run_of_two_devices_leaves_the_records_of_both(clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    metrics = small_run(clip, tmp_path, "devices.count=2")
    devices = json.loads((folder / "devices.json").read_text())["devices"]
    assert [device["records"] for device in devices] == [".", "devices/1"]
    assert metrics["devices"] == 2
    both = [read_records(folder / device["records"]) for device in devices]
    assert [len(records.frames) for records in both] == [10, 10]
    assert metrics["offloads"] == sum(len(records.offloads) for records in both) / 2
    assert max(offload.queue_s or 0 for records in both for offload in records.offloads) > 0.05, "one waits for another"
    small_run(clip, tmp_path, "devices.count=1")
    assert not (folder / "devices.json").exists()
    assert not (folder / "devices").exists()


def test_what_leaves_all_devices_without_references_is_said_once(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_run(clip, tmp_path, "devices.count=3", "model.weights=random")
    assert capsys.readouterr().out.count("random weights find nothing that means anything") == 1
