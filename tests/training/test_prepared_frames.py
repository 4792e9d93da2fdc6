"""Frames kept for training: made once for one content of a video file, and again when the content changes."""

from pathlib import Path

import av
import cv2
import numpy as np

from vitmalis_jobs.training.detection.prepared_frames import prepare_frames


def write_grey_video(path: Path, greys: list[int]) -> None:
    """Write a video of 96 x 54 px, each frame of one grey value."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 54, "yuv420p"
        for grey in greys:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((54, 96, 3), grey, np.uint8), format="rgb24")))
        out.mux(stream.encode())


def read(path: Path) -> np.ndarray:
    image = cv2.imread(str(path))
    assert image is not None
    return image


def test_frames_are_made_once_for_one_content(tmp_path: Path) -> None:
    video = tmp_path / "clip.mp4"
    write_grey_video(video, [40, 120, 200])
    first = prepare_frames("walkS", video, tmp_path / "cache")
    assert first.indices == [0, 1, 2]
    assert read(first.path(1)).shape == (540, 960, 3)
    assert abs(read(first.path(1)).mean() - 120) < 5
    made_ns = first.path(1).stat().st_mtime_ns
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(video.read_bytes())
    assert prepare_frames("walkS", copy, tmp_path / "cache") == first
    assert first.path(1).stat().st_mtime_ns == made_ns


def test_a_changed_video_is_prepared_again(tmp_path: Path) -> None:
    video = tmp_path / "clip.mp4"
    write_grey_video(video, [40, 120, 200])
    before = prepare_frames("walkS", video, tmp_path / "cache")
    write_grey_video(video, [200, 40])
    after = prepare_frames("walkS", video, tmp_path / "cache")
    assert after.folder != before.folder
    assert after.indices == [0, 1]
    assert abs(read(after.path(0)).mean() - 200) < 5
    assert abs(read(before.path(0)).mean() - 40) < 5


def test_an_interrupted_preparation_is_made_again(tmp_path: Path) -> None:
    video = tmp_path / "clip.mp4"
    write_grey_video(video, [40, 120])
    first = prepare_frames("walkS", video, tmp_path / "cache")
    first.path(1).unlink()
    (first.folder / "frames.txt").unlink()
    assert prepare_frames("walkS", video, tmp_path / "cache") == first
    assert first.path(1).is_file()
