from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
import msgspec
import numpy as np
import pytest

from vitmalis.errors import UserError
from vitmalis.types import RgbImage
from vitmalis.video.spec import VideoSpec, fit_size, open_in_time, open_video


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve frames, each of one grey level."""
    path = tmp_path_factory.mktemp("video") / "grey.mp4"
    return encoded(path, [np.full((48, 64, 3), 20 * i, np.uint8) for i in range(12)])


def encoded(path: Path, images: Sequence[RgbImage], crf: int = 0) -> Path:
    """Write H.264 with B-frames in the container that the name's ending says."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": str(crf)})
        stream.height, stream.width, _ = images[0].shape
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def spec(path: Path, start_frame: int = 0, frames: int = 12, size: tuple[int, int] = (64, 48)) -> VideoSpec:
    return VideoSpec("grey", str(path), 10.0, start_frame, frames, *size)


def test_delivers_the_part_asked_for(video: Path) -> None:
    levels = [int(image.mean().round()) for image in open_video(spec(video, start_frame=3, frames=5))]
    np.testing.assert_allclose(levels, [60, 80, 100, 120, 140], atol=3)


def test_same_bits_at_every_call_and_resized(video: Path) -> None:
    first, second = (list(open_video(spec(video, size=(96, 72)))) for _ in range(2))
    assert first[0].shape == (72, 96, 3)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("late", [range(0), range(12), range(2, 5), range(9, 12)])
def test_overdue_images_are_left_out_and_the_others_are_the_same(video: Path, late: range) -> None:
    whole = list(open_video(spec(video)))
    in_time = list(open_in_time(spec(video), lambda index: index in late))
    assert len(in_time) == len(whole) == 12
    left_out = {index for index, image in enumerate(in_time) if image is None}
    # B-frames are decoded before their turn: the next few may be left out, too.
    assert {*late} <= left_out <= {*range(late.start, late.stop + 3)}
    assert all(image is None or np.array_equal(image, same) for image, same in zip(in_time, whole, strict=True))


@pytest.mark.parametrize("late", [range(5, 20), range(2, 30)])
def test_images_keep_their_numbers_where_times_do_not_say_their_order(late: range, tmp_path: Path) -> None:
    """In AVI packets of H.264 are timed in the order of decoding."""
    scene = np.random.default_rng(0).integers(0, 256, (96, 240, 3), np.uint8)
    slide = [np.ascontiguousarray(scene[:, 2 * i : 2 * i + 160]) for i in range(40)]
    clip = spec(encoded(tmp_path / "slide.avi", slide, crf=23), frames=40, size=(160, 96))
    in_time = list(open_in_time(clip, lambda index: index in late))
    assert [index for index, image in enumerate(in_time) if image is None] == list(late)
    for image, same in zip(in_time, open_video(clip), strict=True):
        assert image is None or np.array_equal(image, same)


def test_short_file_says_how_much_there_is(video: Path) -> None:
    with pytest.raises(UserError, match=r"ends after 2 of 5 frames from frame 10"):
        list(open_video(spec(video, start_frame=10, frames=5)))


def test_missing_file_and_no_video(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no file"):
        list(open_video(spec(tmp_path / "none.mp4")))
    text = tmp_path / "text.mp4"
    text.write_text("not a video")
    with pytest.raises(UserError, match="cannot be decoded"):
        list(open_video(spec(text)))


def test_absent_camera_is_one_clear_error() -> None:
    live = VideoSpec("camera", "camera:93", 30.0, 0, 30, 64, 48, live=True)
    with pytest.raises(UserError, match="live source 'camera:93' cannot be opened"):
        next(open_video(live))


def test_spec_travels_as_json(video: Path) -> None:
    original = spec(video)
    assert msgspec.json.decode(msgspec.json.encode(original), type=VideoSpec) == original


@pytest.mark.parametrize(
    ("size", "expected"),
    [((640, 480), (720, 540)), ((1280, 720), (960, 540)), ((848, 480), (954, 540)), ((480, 320), (810, 540))],
)
def test_fitted_sizes_by_hand(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert fit_size(*size, 960, 540) == expected
