"""The job that measures a run on the virtual clock: its parts, and the whole job on a clip of one second."""

from __future__ import annotations

import cProfile
import json
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.tiny_sweep import make_clip
from vitmalis.errors import UserError
from vitmalis.regions import MotionAnalyzer, RegionGrid
from vitmalis.types import Detections, RgbImage
from vitmalis_jobs.validation import virtual_speed
from vitmalis_jobs.validation.virtual_speed import CachedDetector, main, run_cpu_s, shares


class CountingDetector:
    model_id = "counting"

    def __init__(self) -> None:
        self.calls = 0

    def detect(self, image: RgbImage) -> Detections:
        self.calls += 1
        return Detections.of([[0, 0, 1 + int(image[0, 0, 0]), 1]], [0.9], [0])


def test_objects_in_equal_images_are_detected_once() -> None:
    counting = CountingDetector()
    cached = CachedDetector(counting)
    dark, light = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 9, np.uint8)
    found = [cached.detect(image) for image in (dark, light, dark.copy(), light.copy())]
    assert [float(one.boxes_xyxy[0, 2]) for one in found] == [1.0, 10.0, 1.0, 10.0]
    assert (counting.calls, cached.model_id) == (2, "counting")


def test_shares_are_of_the_whole(tmp_path: Path) -> None:
    grid = RegionGrid(width_px=320, height_px=192, window=5, factor=2, patch_px=16)
    analyzer, image = MotionAnalyzer(grid), np.zeros((192, 320, 3), np.uint8)
    profiler = cProfile.Profile()
    with profiler:
        for _ in range(20):
            analyzer.analyse(image)
        np.linalg.svd(np.ones((200, 200)))
    profiler.dump_stats(tmp_path / "some.prof")
    found = shares(tmp_path / "some.prof")
    assert sum(found.values()) == pytest.approx(1.0, abs=0.01)
    assert 0.0 < found["motion analysis"] < 1.0
    assert found["scoring"] == 0.0


def test_a_run_that_fails_is_a_users_mistake() -> None:
    with pytest.raises(UserError, match=r"policy=none failed: error: policy=none is unknown"):
        run_cpu_s(["policy=none"])


@pytest.mark.slow
def test_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    make_clip(Path("clip.mp4"))
    options = ["video=file", "video.path=clip.mp4", "latency=paper_testbed", "model.max_width=320"]
    assert main(["--seconds", "2", "--repeats", "1", *options]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result == json.loads((tmp_path / "runs" / "profiling" / "virtual_speed.json").read_text())
    assert result["frames"] == 60, "two seconds at 30 FPS"
    assert result["cpu_s"] == result["cpu_s_runs"][0] > 0
    assert result["shares"]["importing"] > 0
    assert set(result["shares"]) == {*virtual_speed.PARTS, virtual_speed.OTHER}
    assert result["bars"] == {}
