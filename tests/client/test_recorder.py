"""Rows of explained decisions, from the policy through the recorder to the file and back."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from vitmalis.client.events import EndOffload, Render, StartOffload
from vitmalis.client.recorder import Recorder
from vitmalis.explanation import DecisionExplanation
from vitmalis.offload import OffloadDecision, TokenCaching
from vitmalis.records import (
    DECISIONS_FILE,
    OFFLOADS_FILE,
    DecisionRecord,
    RecordsInfo,
    read_decisions,
    read_frames,
    read_offloads,
    write_decisions,
    write_frames,
    write_offloads,
)
from vitmalis.regions import ModelGeometry
from vitmalis.types import BoxSource, Configuration, Detections, Frame, OffloadStatus

GEOMETRY = ModelGeometry(window=5, factor=2, patch_px=16, restoration_points=4)
FRAME = Frame(7, 0.7, np.zeros((160, 320, 3), np.uint8))
"""Two regions side by side."""


@pytest.fixture
def explanation() -> DecisionExplanation:
    return DecisionExplanation(
        tracked=Detections.of([[1, 2, 30, 40]], [0.75], [2]),
        region_types=np.array([[2, 1]], np.int8),
        region_motion=np.array([[0.25, 0.75]], np.float32),
        relevance=np.array([[1.0, 0.0]]),
        frame_motion=0.125,
        frames_since_offload=9,
        retention=0.5,
        uplink_mbps=12.5,
        rtt_s=0.04,
        tau_d=np.array([0, 1]),
        quality=np.array([95, 70]),
        restoration_point=np.array([0, 3]),
        payload_bytes=np.array([5e4, 2e4]),
        e2e_latency_s=np.array([0.6, 0.4]),
        f1=np.array([0.9, 0.8]),
        frontier=np.array([1, 0]),
        knee=1,
        chosen=1,
        reason="knee",
    )


def test_an_explained_decision_is_two_rows_that_survive_their_files(
    explanation: DecisionExplanation, tmp_path: Path
) -> None:
    recorder = Recorder(0.1, GEOMETRY)
    recorder.analysed(0.003)
    recorder.estimated_ahead(0.005)
    mask = np.array([[False, True]])
    decision = OffloadDecision(
        Configuration(1, 70, 3),
        downsample_mask=mask,
        explanation=explanation,
        estimation_s=0.0004,
        optimization_s=0.0001,
        estimates_age_frames=3,
    )
    recorder.offload_started(StartOffload(4, FRAME, decision), 0.71, 0.0006)
    recorder.offload_ended(EndOffload(4, OffloadStatus.OK))
    info = RecordsInfo(policy="vitmalis", clip="clip")
    write_offloads(tmp_path / OFFLOADS_FILE, recorder.offloads(), info)
    write_decisions(tmp_path / DECISIONS_FILE, recorder.decisions(), info)
    (offload,), (row,) = read_offloads(tmp_path / OFFLOADS_FILE), read_decisions(tmp_path / DECISIONS_FILE)
    assert (offload.tau_d, offload.downsampled_regions, offload.regions, offload.blank_regions) == (1, 1, 2, 0)
    assert (offload.motion_s, offload.estimation_s, offload.optimization_s) == (0.003, 0.0004, 0.0001)
    assert (offload.ahead_s, offload.estimates_age_frames) == (0.005, 3)
    assert (offload.estimated_payload_bytes, offload.estimated_e2e_latency_s, offload.estimated_f1) == (2e4, 0.4, 0.8)
    assert offload.decision_reason == "knee"
    assert (row.offload_id, row.frame_index) == (4, 7)
    for field in dataclasses.fields(DecisionExplanation):
        if field.name != "tracked":
            stored, given = getattr(row.explanation, field.name), getattr(explanation, field.name)
            np.testing.assert_array_equal(stored, given, strict=True)
    np.testing.assert_array_equal(row.explanation.tracked.boxes_xyxy, [[1, 2, 30, 40]])


def test_a_decision_is_stored_as_flat_lists(explanation: DecisionExplanation, tmp_path: Path) -> None:
    row = DecisionRecord(offload_id=4, frame_index=7, explanation=explanation)
    write_decisions(tmp_path / DECISIONS_FILE, [row], RecordsInfo(policy="vitmalis", clip="clip"))
    (stored,) = pq.read_table(tmp_path / DECISIONS_FILE).to_pylist()
    assert list(stored) == [
        "offload_id", "frame_index", "region_rows", "region_types", "region_motion", "relevance", "frame_motion",
        "frames_since_offload", "retention", "uplink_mbps", "rtt_s", "tau_d", "quality", "restoration_point",
        "payload_bytes", "e2e_latency_s", "f1", "frontier", "knee", "chosen", "reason", "boxes_xyxy", "scores",
        "labels",
    ]  # fmt: skip
    assert (stored["offload_id"], stored["frame_index"], stored["region_rows"]) == (4, 7, 1)
    assert (stored["region_types"], stored["region_motion"]) == ([2, 1], [0.25, 0.75])
    assert (stored["tau_d"], stored["payload_bytes"], stored["frontier"]) == ([0, 1], [5e4, 2e4], [1, 0])
    assert (stored["knee"], stored["reason"], stored["boxes_xyxy"]) == (1, "knee", [1, 2, 30, 40])


def test_a_plain_decision_has_no_estimates_and_no_row_of_its_own() -> None:
    recorder = Recorder(0.1, GEOMETRY)
    recorder.estimated_ahead(0.005)
    blank = np.array([[True, False]])
    start = StartOffload(0, FRAME, OffloadDecision(Configuration(), blank_mask=blank, frame_downsampling=2))
    recorder.offload_started(start, 0.0, 0.0)
    (offload,) = recorder.offloads()
    assert recorder.decisions() == []
    assert (offload.blank_regions, offload.frame_downsampling, offload.region_map) == (1, 2, "BF")
    assert (offload.decision_reason, offload.estimated_f1, offload.motion_s) == (None, None, None)
    assert (offload.ahead_s, offload.estimates_age_frames) == (None, None), "it decided without what was estimated"


@pytest.mark.parametrize(
    ("low", "cached", "expected", "counts"),
    [
        (None, [True, False], "CF", (0, 1)),
        ([False, True], [True, False], "CL", (1, 1)),
        ([True, True], [True, False], "CL", (1, 1)),  # of a region in both masks nothing is sent
        ([False, False], [False, False], "", (0, 0)),
    ],
)
def test_cached_regions_are_on_record(
    low: list[bool] | None, cached: list[bool], expected: str, counts: tuple[int, int]
) -> None:
    recorder = Recorder(0.1, GEOMETRY)
    mask = None if low is None else np.array([low])
    decision = OffloadDecision(Configuration(1, 75, 4), mask, caching=TokenCaching(0, np.array([cached])))
    recorder.offload_started(StartOffload(0, FRAME, decision), 0.0, 0.0)
    (offload,) = recorder.offloads()
    assert offload.region_map == expected
    assert (offload.downsampled_regions, offload.cached_regions) == counts


def test_coarse_macroblocks_are_on_record() -> None:
    recorder = Recorder(0.1, GEOMETRY)
    coarse = np.array([[True, False, True]])
    decision = OffloadDecision(Configuration(), coarse_mask=coarse, coarse_quality=30)
    recorder.offload_started(StartOffload(0, FRAME, decision), 0.0, 0.0)
    (offload,) = recorder.offloads()
    assert (offload.coarse_blocks, offload.coarse_quality) == (2, 30)
    assert offload.coarse_map == "a0"  # bits 101


def test_the_client_process_knows_no_reference_and_no_model() -> None:
    """What is not loaded cannot be looked at: references, metrics, the detector; nor what only jobs need."""
    forbidden = ("torch", "mlflow", "hydra", "vitmalis.references", "vitmalis.metrics", "vitmalis.detector")
    code = f"import sys, vitmalis.client.__main__\nprint([m for m in {forbidden} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_a_frame_that_was_not_delivered_says_so_unless_it_came_after_all(tmp_path: Path) -> None:
    recorder, info = Recorder(0.1, GEOMETRY), RecordsInfo(policy="p", clip="c")
    recorder.captured(0, 0.0)
    for index, delivered in enumerate((True, True, False, False)):
        recorder.rendered(Render(index, Detections.empty(), BoxSource.NONE, -1, -1), 0.1 * index + 0.1, delivered)
    recorder.captured(3, 0.39)
    frames = recorder.frames()
    assert [frame.captured for frame in frames] == [True, False, False, True]
    assert [frame.undelivered for frame in frames] == [None, None, True, None]
    write_frames(tmp_path / "frames.parquet", frames, info)
    assert [frame.undelivered for frame in read_frames(tmp_path / "frames.parquet")] == [None, None, True, None]
    write_frames(tmp_path / "frames.parquet", frames[:2], info)
    assert "undelivered" not in pq.read_schema(tmp_path / "frames.parquet").names
    assert [frame.undelivered for frame in read_frames(tmp_path / "frames.parquet")] == [None, None]
