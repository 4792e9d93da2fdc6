"""The benchmark job: its parts on small images, and the whole job as it is started."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from vitmalis.detector.config import preset
from vitmalis.errors import UserError
from vitmalis.policy.base import ClientState
from vitmalis.regions import Motion, RegionGrid
from vitmalis.types import Detections, RgbImage
from vitmalis_jobs.validation import benchmark
from vitmalis_jobs.validation.benchmark import (
    GEOMETRY,
    MODEL,
    codec_pass,
    decision_pass,
    half_masks,
    largest,
    motion_pass,
    one_core,
    tracker_pass,
)

GRID = RegionGrid(width_px=320, height_px=200, window=2)
BOXES = Detections.of([[40, 40, 100, 100], [130, 60, 180, 150]], [0.9, 0.8], [0, 2])


@pytest.fixture(scope="module")
def images() -> list[RgbImage]:
    scene = cv2.resize(np.random.default_rng(0).integers(0, 256, (30, 60, 3), np.uint8), (400, 200))
    return [np.ascontiguousarray(scene[:, 4 * t : 4 * t + 320]) for t in range(4)]


def test_motion_and_tracking_are_timed_on_what_really_moves(images: list[RgbImage]) -> None:
    median_ms, found = motion_pass(GRID, images, repeats=8)
    assert median_ms > 0
    assert len(found) == 8
    assert all(motion.frame_motion > 0.05 for motion in found[:3])
    assert tracker_pass(images, [BOXES] * 4, repeats=4) > 0


def test_the_decision_weighs_the_whole_space() -> None:
    shares = np.full(GRID.shape, 1 / np.prod(GRID.shape), np.float32)
    shares[0] = 0
    state = ClientState(0, GRID, 1 / 30, 0.0, tracked=BOXES, motion=Motion(shares, 0.1), results=1)
    result = decision_pass([state], repeats=3)
    assert result["configurations"] == 77
    assert 0 < result["estimation_ms"] + result["optimization_ms"] < result["decision_ms"]
    nothing_to_downsample = ClientState(0, GRID, 1 / 30, 0.0)
    with pytest.raises(UserError, match="77 configurations"):
        decision_pass([nothing_to_downsample], repeats=3)


def test_ratios_are_medians_of_pairs(images: list[RgbImage], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock of the test, full frames take 4 ms and packed ones 3 ms, whichever comes first."""
    calls = itertools.count()
    real = benchmark.processor_timed

    def by_mask(function, *arguments):  # type: ignore[no-untyped-def]
        returned, _ = real(function, *arguments)
        low = arguments[1].downsample_mask if function is benchmark.encode_offload else arguments[0].regions
        next(calls)
        return returned, 4e-3 if low is None else 3e-3

    monkeypatch.setattr(benchmark, "processor_timed", by_mask)
    result = codec_pass(GRID, images, repeats=3)
    assert (result["encode_ratio"], result["decode_ratio"]) == pytest.approx((0.75, 0.75))
    assert (result["encode_full_ms"], result["decode_half_ms"]) == pytest.approx((4.0, 3.0))
    assert next(calls) == 4 * 4


def test_masks_are_halves_and_the_boxes_ten() -> None:
    masks = half_masks(RegionGrid(width_px=960, height_px=540, window=5), 20)
    assert {int(mask.sum()) for mask in masks} == {12}
    assert len({mask.tobytes() for mask in masks}) == 20
    assert GEOMETRY.grid(960, 540) == preset(MODEL).region_grid(540, 960)
    chosen = largest(BOXES, 3)
    assert chosen.labels.tolist() == [2, 0, 2]


def test_the_core_and_the_threads_are_given_back() -> None:
    import psutil

    before = cv2.getNumThreads()
    process = psutil.Process()
    cores = process.cpu_affinity() if hasattr(process, "cpu_affinity") else None
    with one_core() as pinned:
        assert cv2.getNumThreads() == 1
        assert pinned == (cores is not None)
        assert cores is None or len(process.cpu_affinity()) == 1
    assert cv2.getNumThreads() == before
    assert cores is None or process.cpu_affinity() == cores


def test_the_job_prints_what_it_stores(tmp_path: Path) -> None:
    output = tmp_path / "benchmark.json"
    few = ["--repeats", "2", "--frames", "3", "--scenes", "1"]
    command = [sys.executable, "-m", "vitmalis_jobs.validation.benchmark", *few, "--output", str(output)]
    job = subprocess.run(command, capture_output=True, text=True, timeout=220, check=False)
    assert job.returncode in (0, 1), job.stderr
    result = json.loads(job.stdout)
    assert result == json.loads(output.read_text())
    keys = set(result["bars"])
    stages = {"decision_ms", "motion_ms", "tracker_ms", "encode_ratio", "decode_ratio"}
    assert keys == stages | {f"{stage}_1080p" for stage in stages}
    assert all(result[key] > 0 for key in keys)
    assert set(result["missed"]) == {key for key in keys if result[key] > result["bars"][key]}
    assert set(result["hit"]) == keys - set(result["missed"])
    assert job.returncode == bool(result["missed"])


def test_too_few_repeats_are_a_users_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(["--repeats", "1"]) == 2
    assert capsys.readouterr().err == "error: --repeats must be at least 2, not 1\n"
