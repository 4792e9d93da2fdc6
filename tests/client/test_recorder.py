"""Rows of explained decisions, from the policy through the recorder to the file and back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vitmalis.client.events import EndOffload, StartOffload
from vitmalis.client.recorder import Recorder
from vitmalis.explanation import DecisionExplanation
from vitmalis.offload import OffloadDecision
from vitmalis.records import (
    DECISIONS_FILE,
    OFFLOADS_FILE,
    RecordsInfo,
    read_decisions,
    read_offloads,
    write_decisions,
    write_offloads,
)
from vitmalis.regions import ModelGeometry
from vitmalis.types import Configuration, Detections, Frame

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
        estimation_s=0.0004,
        optimization_s=0.0001,
    )


def test_an_explained_decision_is_two_rows_that_survive_their_files(
    explanation: DecisionExplanation, tmp_path: Path
) -> None:
    recorder = Recorder(0.1, GEOMETRY)
    recorder.analysed(0.003)
    mask = np.array([[False, True]])
    decision = OffloadDecision(Configuration(1, 70, 3), downsample_mask=mask, explanation=explanation)
    recorder.offload_started(StartOffload(4, FRAME, decision), 0.71, 0.0006)
    recorder.offload_ended(EndOffload(4, "ok"))
    info = RecordsInfo(policy="vitmalis", clip="clip")
    write_offloads(tmp_path / OFFLOADS_FILE, recorder.offloads(), info)
    write_decisions(tmp_path / DECISIONS_FILE, recorder.decisions(), info)
    (offload,), (row,) = read_offloads(tmp_path / OFFLOADS_FILE), read_decisions(tmp_path / DECISIONS_FILE)
    assert (offload.tau_d, offload.downsampled_regions, offload.regions, offload.blank_regions) == (1, 1, 2, 0)
    assert (offload.motion_s, offload.estimation_s, offload.optimization_s) == (0.003, 0.0004, 0.0001)
    assert (offload.estimated_payload_bytes, offload.estimated_e2e_latency_s, offload.estimated_f1) == (2e4, 0.4, 0.8)
    assert offload.decision_reason == "knee"
    assert (row.offload_id, row.frame_index, row.region_rows) == (4, 7, 1)
    assert (row.region_types, row.region_motion, row.relevance) == ([2, 1], [0.25, 0.75], [1.0, 0.0])
    assert (row.frame_motion, row.frames_since_offload, row.retention) == (0.125, 9, 0.5)
    assert (row.uplink_mbps, row.rtt_s) == (12.5, 0.04)
    assert (row.tau_d, row.quality, row.restoration_point) == ([0, 1], [95, 70], [0, 3])
    assert (row.payload_bytes, row.e2e_latency_s, row.f1) == ([5e4, 2e4], [0.6, 0.4], [0.9, 0.8])
    assert (row.frontier, row.knee, row.chosen, row.reason) == ([1, 0], 1, 1, "knee")
    assert row.detections.boxes_xyxy.tolist() == [[1, 2, 30, 40]]


def test_a_plain_decision_has_no_estimates_and_no_row_of_its_own() -> None:
    recorder = Recorder(0.1, GEOMETRY)
    blank = np.array([[True, False]])
    start = StartOffload(0, FRAME, OffloadDecision(Configuration(), blank_mask=blank, frame_downsampling=2))
    recorder.offload_started(start, 0.0, 0.0)
    (offload,) = recorder.offloads()
    assert recorder.decisions() == []
    assert (offload.blank_regions, offload.frame_downsampling) == (1, 2)
    assert (offload.decision_reason, offload.estimated_f1, offload.motion_s) == (None, None, None)


def test_the_client_process_knows_no_reference_and_no_model() -> None:
    """What is not loaded cannot be looked at: references, metrics, the detector; nor what only jobs need."""
    forbidden = ("torch", "mlflow", "hydra", "vitmalis.references", "vitmalis.metrics", "vitmalis.detector")
    code = f"import sys, vitmalis.client.__main__\nprint([m for m in {forbidden} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
