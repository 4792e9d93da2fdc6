"""The recording of a live source: image i of the video is frame i, whatever the source left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vitmalis.errors import UserError
from vitmalis.types import Frame
from vitmalis.video import recording
from vitmalis.video.recording import Recording
from vitmalis.video.spec import VideoSpec, open_video

WIDTH, HEIGHT = 64, 48


def record(path: Path, indices: list[int], end_at: int = 0) -> None:
    with Recording(path, 10.0) as out:
        for index in indices:
            out.put(Frame(index, index / 10, np.full((HEIGHT, WIDTH, 3), 20 * index, np.uint8)))
        out.end_at(end_at)


def brightness(path: Path, frames: int) -> list[int]:
    """Of each image, in units of 20."""
    images = open_video(VideoSpec("camera", str(path), 10.0, 0, frames, WIDTH, HEIGHT))
    return [round(float(image.mean()) / 20) for image in images]


def test_images_are_at_their_indices(tmp_path: Path) -> None:
    record(tmp_path / "camera.mkv", [0, 1, 2, 3])
    assert brightness(tmp_path / "camera.mkv", 4) == [0, 1, 2, 3]


def test_what_the_source_left_out_is_the_frame_before(tmp_path: Path) -> None:
    record(tmp_path / "camera.mkv", [2, 3, 6], end_at=9)
    assert brightness(tmp_path / "camera.mkv", 9) == [2, 2, 2, 3, 3, 3, 6, 6, 6]


def test_it_is_as_long_as_what_was_delivered(tmp_path: Path) -> None:
    record(tmp_path / "camera.mkv", [0, 1])
    with pytest.raises(UserError, match="ends after 2 of 3 frames"):
        brightness(tmp_path / "camera.mkv", 3)


def test_frames_that_cannot_be_encoded_in_time_are_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The camera does not wait: here for a thread that has not started yet."""
    monkeypatch.setattr(recording, "_WAITING_FRAMES", 2)
    out = Recording(tmp_path / "camera.mkv", 10.0)
    for index in range(4):
        out.put(Frame(index, index / 10, np.full((HEIGHT, WIDTH, 3), 20 * index, np.uint8)))
    with out:
        out.end_at(4)
    assert brightness(tmp_path / "camera.mkv", 4) == [0, 1, 1, 1]


def test_a_folder_that_is_missing_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"recording '.*' cannot be written: No such file"):
        Recording(tmp_path / "missing" / "camera.mkv", 10.0)


def test_nothing_delivered_is_an_empty_file(tmp_path: Path) -> None:
    record(tmp_path / "camera.mkv", [])
