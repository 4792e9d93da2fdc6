"""Scores against a detector's own boxes, on a clip whose object is known to be found or not."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from vitmalis.errors import UserError
from vitmalis.types import Detections, RgbImage
from vitmalis.video.encode import write_clip
from vitmalis.video.spec import VideoSpec
from vitmalis_jobs.common.config import checked, compose
from vitmalis_jobs.training.detection.config import DetectorTrainingConfig
from vitmalis_jobs.training.detection.played_clips import OwnBoxScores, own_box_scores, played_clips

WIDTH, HEIGHT, FRAMES = 160, 96, 12


def config(*overrides: str) -> DetectorTrainingConfig:
    return checked(compose("train_detector", overrides), DetectorTrainingConfig)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> VideoSpec:
    """A textured square of 40 px on grey that moves 4 px a frame."""
    path = tmp_path_factory.mktemp("clip") / "square.mp4"
    texture = np.random.default_rng(0).integers(170, 256, (10, 10), np.uint8)
    square = cv2.resize(texture, (40, 40), interpolation=cv2.INTER_CUBIC)[..., None]
    images = [np.full((HEIGHT, WIDTH, 3), 40, np.uint8) for _ in range(FRAMES)]
    for t, image in enumerate(images):
        image[30:70, 20 + 4 * t : 60 + 4 * t] = square
    write_clip(path, images, 25, (WIDTH, HEIGHT))
    return VideoSpec(name="square", path=str(path), fps=25, start_frame=0, frames=FRAMES, width=WIDTH, height=HEIGHT)


def bright(image: RgbImage) -> Detections:
    """Find the square in images of any size."""
    rows, columns = np.nonzero(image[..., 1] > 110)
    return Detections.of([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], [0.9], [0])


def test_a_detector_that_knows_every_size_and_is_steady(clip: VideoSpec) -> None:
    scores = own_box_scores(bright, clip, config("held_out.consecutive=6", "held_out.frames_per_clip=3").held_out)
    assert scores == OwnBoxScores(*[1] * 7)  # persistence, too: without flow 36 of 44 px overlap
    assert "F1 of halved frames 1.000 (enlarged 1.000), of boxes tracked one frame 1.000 (" in scores.line()


def test_a_detector_that_knows_full_size_alone_and_flickers(clip: VideoSpec) -> None:
    """It finds nothing in small images, nor while the square is at an odd multiple of 4 px."""

    def flickers(image: RgbImage) -> Detections:
        found = bright(image)
        at_odd_place = round(float(found.boxes_xyxy[0, 0] - 20) / 4) % 2 == 1
        return Detections.empty() if image.shape[1] < WIDTH or at_odd_place else found

    scores = own_box_scores(flickers, clip, config("held_out.consecutive=4", "held_out.frames_per_clip=12").held_out)
    assert scores == OwnBoxScores(0, 1, tracked_f1=0, hysteresis_f1=0, shown_f1=0, stability=0, persistence=0)


def test_clips_that_are_not_here_are_left_out_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITMALIS_CACHE", str(tmp_path / "cache"))
    here = "held_out.consecutive=2", f"clips.folder={tmp_path}"
    clips, left_out = played_clips(config(*here, "held_out.played=[walkS,indoor]"))
    assert (list(clips), clips["walkS"].frames, list(left_out)) == (["walkS"], 2, ["indoor"])
    assert played_clips(config("held_out.played=[]")) == ({}, {})
    with pytest.raises(UserError, match=r"held_out\.played: there is no clip 'indor'"):
        config("held_out.played=[indor]")
