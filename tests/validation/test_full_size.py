"""The full-size job on small frames: its stub server, a run of the real client, and what it says about records."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from vitmalis.records import FrameRecord, OffloadRecord
from vitmalis.regions import ModelGeometry
from vitmalis.types import Detections
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.run.records import RunRecords
from vitmalis_jobs.validation import full_size
from vitmalis_jobs.validation.full_size import OFFLOAD_STAGES, kept_up, stage
from vitmalis_jobs.validation.stub_server import SleepingDetector
from vitmalis_jobs.validation.synthetic_tables import synthetic_tables

GEOMETRY = ModelGeometry(window=5, factor=2, patch_px=16, restoration_points=4)


def test_the_stub_takes_the_time_of_its_tables() -> None:
    tables, boxes = synthetic_tables("vitdet_tiny", "stub"), Detections.of([[0, 0, 9, 9]], [0.9], [2])
    stub = SleepingDetector(tables, boxes, GEOMETRY, "stub")
    mask = np.zeros(GEOMETRY.grid(960, 540).shape, bool)
    mask[0] = True
    for found, least_s in (
        (lambda: stub.detect(None), tables.inference_s([0], [0])[0]),
        (lambda: stub.detect_patches(None, (540, 960), mask, 2), tables.inference_s([6], [2])[0]),
        (lambda: stub.detect_patches_each([None, None], (540, 960), [mask, mask], 2)[1], 2 * least_s_of(tables)),
    ):
        start_s = time.monotonic()
        assert found() is boxes
        assert time.monotonic() - start_s >= least_s - 1e-3


def least_s_of(tables) -> float:  # type: ignore[no-untyped-def]
    return float(tables.inference_s([6], [2])[0])


def test_a_stage_is_busy_for_its_share_of_the_time() -> None:
    row = stage("encode", [0.01, 0.02, 0.03], per_s=10.0)
    assert row == {"stage": "encode", "median_ms": 20.0, "p90_ms": 28.0, "per_s": 10.0, "busy": 0.2}
    assert stage("decision", [], per_s=10.0) == {"stage": "decision"}


def test_lost_frames_and_late_boxes_by_hand() -> None:
    """Of four frames one is lost; the boxes shown are none, of this frame, and of one and two frames before."""
    frames = [
        FrameRecord(
            frame_index=i, capture_time_s=i / 30, render_time_s=i / 30, captured=i != 3, shown_frame_index=shown
        )
        for i, shown in enumerate((-1, 1, 1, 1))
    ]
    offloads = [
        OffloadRecord(
            offload_id=0, frame_index=0, start_time_s=0.0, regions=24, downsampled_regions=6, payload_bytes=9
        ),
        OffloadRecord(offload_id=1, frame_index=2, start_time_s=0.1, regions=24, status="lost"),
    ]
    assert kept_up(RunRecords(frames, offloads)) == {
        "frames": 4,
        "frames_lost_share": 0.25,
        "boxes_late_frames_median": 1.0,
        "boxes_late_frames_p90": pytest.approx(1.8),
        "offloads": 2,
        "offloads_lost": 1,
        "low_share_mean": 0.125,
        "payload_bytes_median": 9.0,
    }


def test_the_real_client_plays_against_the_stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WIDTH": 320, "HEIGHT": 192, "RENDERED": 4, "GEOMETRY": GEOMETRY}.items():
        monkeypatch.setattr(full_size, name, value)
    options = full_size.command_line().parse_args(["--seconds", "2"])
    result = full_size.measure(options, tmp_path, Terminal.on_stderr())
    assert result["server"] == "stub that sleeps latency=h200 of vitdet_l, and decodes on this machine"
    assert result["frames"] == 60
    assert result["offloads"] > 0
    shown = {row["stage"] for row in result["stages"] if "median_ms" in row}
    assert shown >= {"decode and convert", "pack and encode", *OFFLOAD_STAGES} - {"decision"}
    assert (tmp_path / "offloads.parquet").is_file()
