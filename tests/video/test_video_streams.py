"""Which stream of a file is the video, and what the stream does not say."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from tests.video.small_files import FPS, FRAMES, grey, levels, resolve
from vitmalis.errors import UserError


def test_a_cover_image_is_not_the_video(tmp_path: Path) -> None:
    path = tmp_path / "cover_first.mkv"
    with av.open(str(path), "w") as out:
        cover = out.add_stream("mjpeg", rate=25)
        video = out.add_stream("libx264", rate=FPS)
        for stream, size in ((cover, (32, 32)), (video, (64, 36))):
            stream.width, stream.height = size
        cover.pix_fmt = "yuvj420p"
        out.mux(cover.encode(av.VideoFrame.from_ndarray(grey(255, 32, 32), format="rgb24")))
        out.mux(cover.encode())
        for i in range(FRAMES):
            out.mux(video.encode(av.VideoFrame.from_ndarray(grey(10 * i), format="rgb24")))
        out.mux(video.encode())
    spec = resolve(path)
    assert (spec.stream, spec.fps, spec.note) == (1, 10.0, "")
    assert levels(spec) == list(range(FRAMES))


def test_raw_h264_plays_at_the_rate_that_is_given(tmp_path: Path) -> None:
    path = tmp_path / "raw.h264"
    with av.open(str(path), "w", format="h264") as out:
        stream = out.add_stream("libx264", rate=FPS)
        stream.width, stream.height = 64, 36
        for i in range(FRAMES):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(grey(10 * i), format="rgb24")))
        out.mux(stream.encode())
    spec = resolve(path, fps=FPS)
    assert (spec.fps, spec.frames, spec.note) == (FPS, FRAMES, "")
    assert levels(spec) == list(range(FRAMES))
    assert resolve(path, seconds=3, fps=FPS).note == "the clip ends after 2.4 of 3 s"
    with pytest.raises(UserError, match=r"raw\.h264' does not say its frame rate: give it with video\.fps="):
        resolve(path)


def test_raw_mjpeg_has_no_rate_either(tmp_path: Path) -> None:
    path = tmp_path / "raw.mjpeg"
    with av.open(str(path), "w", format="mjpeg") as out:
        stream = out.add_stream("mjpeg", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 64, 36, "yuvj420p"
        for i in range(3):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(grey(10 * i), format="rgb24")))
    with pytest.raises(UserError, match=r"does not say its frame rate"):
        resolve(path)
    assert resolve(path, seconds=0.3, fps=FPS).frames == 3


def write_audio(path: Path, cover: bool) -> None:
    with av.open(str(path), "w") as out:
        audio = out.add_stream("mp3", rate=44100)
        if cover:
            image = out.add_stream("png", rate=1)
            image.width, image.height, image.pix_fmt = 32, 32, "rgb24"
            image.disposition = Disposition.attached_pic
            out.mux(image.encode(av.VideoFrame.from_ndarray(grey(255, 32, 32), format="rgb24")))
            out.mux(image.encode())
        sound = av.AudioFrame.from_ndarray(np.zeros((2, 1152), np.float32), format="fltp", layout="stereo")
        sound.rate = 44100
        out.mux(audio.encode(sound))
        out.mux(audio.encode())


@pytest.mark.parametrize(("cover", "held"), [(False, "audio"), (True, "a cover image and audio")])
def test_sound_with_or_without_a_cover_image_is_no_video(tmp_path: Path, cover: bool, held: str) -> None:
    path = tmp_path / "song.mp3"
    write_audio(path, cover)
    with pytest.raises(UserError, match=f"song.mp3' has no video, only {held}$"):
        resolve(path)


def test_a_file_with_several_videos_says_which_is_played(tmp_path: Path) -> None:
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as out:
        streams = [out.add_stream("libx264", rate=FPS) for _ in range(2)]
        for stream in streams:
            stream.width, stream.height = 64, 36
        for i in range(FRAMES):
            for stream in streams:
                out.mux(stream.encode(av.VideoFrame.from_ndarray(grey(10 * i), format="rgb24")))
        for stream in streams:
            out.mux(stream.encode())
    spec = resolve(path)
    assert spec.note == f"stream {spec.stream} is played, one of 2 video streams of the file"


def test_hdr_colours_are_noted(tmp_path: Path) -> None:
    path = tmp_path / "hdr.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.codec_context.color_trc = 64, 36, 16
        for i in range(3):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(grey(10 * i), format="rgb24")))
        out.mux(stream.encode())
    assert resolve(path, seconds=0.3).note.startswith("its colours are HDR (PQ)")
