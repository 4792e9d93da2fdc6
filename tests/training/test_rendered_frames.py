"""Rendered training frames: made once, by worker processes or not, and found again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vitmalis.errors import UserError
from vitmalis.types import Detections
from vitmalis.video.standin import SceneFrame
from vitmalis_jobs.training.detection.config import RenderedOptions
from vitmalis_jobs.training.detection.labels import IGNORE
from vitmalis_jobs.training.detection.rendered_frames import rendered_frames
from vitmalis_jobs.training.detection.rendered_scenes import FRAME_STEP, SceneMaker

OPTIONS = RenderedOptions(share=0.5, profiles=("walkS", "driveN"), first_seed=7, scenes=2, frames_per_scene=2, fps=30.0)


class Square:
    """A scene of one grey square and one person of 9 px, which a training frame learns and a validation set ignores."""

    def __init__(self, profile: str, seed: int) -> None:
        self.start = seed + (20 if profile == "walkS" else 40)

    def render_full(self, frame_index: int) -> SceneFrame:
        start = self.start + frame_index
        image = np.full((128, 160, 3), 30, np.uint8)
        image[start : start + 40, start : start + 40] = 200
        owners = np.where(image[..., 0] == 200, np.uint8(1), np.uint8(0))
        boxes = [[start, start, start + 40, start + 40], [100, 10, 104, 19], [110, 10, 113, 17]]
        truth = Detections.of(boxes, [1.0] * 3, [2, 0, 0])
        return SceneFrame(image, truth, np.ones(3, np.float32), owners, np.array([1, 2, 3], np.uint8))


def test_frames_lie_in_the_order_of_seeds_and_profiles_and_are_made_once(tmp_path: Path) -> None:
    frames = rendered_frames(Square, OPTIONS, tmp_path, workers=0)
    # Seeds 7 and 8, the profiles in turn, two frames each.
    starts = [first + step for first in (27, 47, 28, 48) for step in (0, FRAME_STEP)]
    assert [frame.targets.boxes_xyxy[0].tolist() for frame in frames] == [[s, s, s + 40, s + 40] for s in starts]
    assert frames[0].targets.labels.tolist() == [2, 0, IGNORE]  # 9 px are learned, 7 px are not
    assert {frame.size for frame in frames} == {(160, 128)}
    image = frames[3].image()
    assert image[starts[3] + 20, starts[3] + 20] == pytest.approx([200] * 3, abs=3)
    assert image[5, 5] == pytest.approx([30] * 3, abs=3)
    made_ns = [frame.path.stat().st_mtime_ns for frame in frames]
    again = rendered_frames(Square, OPTIONS, tmp_path, workers=0)
    assert [frame.path for frame in again] == [frame.path for frame in frames]
    assert [frame.path.stat().st_mtime_ns for frame in again] == made_ns


def test_an_interrupted_scene_is_rendered_again_and_a_damaged_table_refused(tmp_path: Path) -> None:
    first = rendered_frames(Square, OPTIONS, tmp_path, workers=0)[0]
    table = first.path.with_name("targets.json")
    content = table.read_bytes()
    table.unlink()
    first.path.unlink()
    rendered_frames(Square, OPTIONS, tmp_path, workers=0)
    assert first.path.is_file()
    assert table.read_bytes() == content
    table.write_bytes(b"[{")
    with pytest.raises(UserError, match=r"targets\.json.*remove its folder"):
        rendered_frames(Square, OPTIONS, tmp_path, workers=0)


def test_worker_processes_render_the_same_frames_and_the_log_counts_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    make = SceneMaker((192, 108), 30.0)
    options = RenderedOptions(share=1, profiles=("walkS",), first_seed=7, scenes=1, frames_per_scene=1, fps=30.0)
    (here,) = rendered_frames(make, options, tmp_path / "here", workers=0)
    assert "rendered 1 of 1 frames" in caplog.text
    (there,) = rendered_frames(make, options, tmp_path / "there", workers=1)
    assert there.path.read_bytes() == here.path.read_bytes()
    assert (there.targets.boxes_xyxy == here.targets.boxes_xyxy).all()
