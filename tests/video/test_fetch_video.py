"""Cutting a source into its two clips, resuming, and error messages."""

from __future__ import annotations

import builtins
import hashlib
import json
import sys
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import msgspec
import numpy as np
import pytest

from vitmalis.errors import UserError
from vitmalis.video.fetch import frames_at, main
from vitmalis.video.fetch_download import download_video
from vitmalis.video.manifest import check_sha256, clip_entry

FPS, FRAMES, SIZE = 25, 100, (64, 48)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds at 25 FPS; the brightness of frame i is 2 * i + 20."""
    path = tmp_path_factory.mktemp("source") / "video.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=FPS, options={"crf": "1", "g": "10"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for number in range(FRAMES):
            image = np.full((SIZE[1], SIZE[0], 3), 2 * number + 20, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(stream.encode())
    return path


def numbers(images: Any) -> list[int]:
    return [round((float(image.mean()) - 20) / 2) for image in images]


@pytest.mark.parametrize("fps", [25.0, 30.0, 10.0])
def test_each_time_shows_the_frame_that_is_on_screen_then(source: Path, fps: float) -> None:
    shown = numbers(frames_at(source, 1.0, fps, round(2 * fps), SIZE))
    expected = [int((1.0 + index / fps) * FPS + 1e-6) for index in range(round(2 * fps))]
    assert np.abs(np.array(shown) - expected).max() <= 1  # colours come back from H.264 rounded


def test_the_last_frame_is_reached_and_no_later_one(source: Path) -> None:
    assert numbers(frames_at(source, 3.0, 25.0, 25, SIZE))[-1] == pytest.approx(99, abs=1)
    with pytest.raises(UserError, match=r"ends 1.0 s too early for 2 s from 3 s"):
        list(frames_at(source, 3.0, 25.0, 50, SIZE))


ARGUMENTS = ["--profile-start-s", "0", "--profile-seconds", "1", "--eval-start-s", "1", "--eval-seconds", "2"]


def test_both_parts_are_cut_once_and_checked(source: Path, tmp_path: Path) -> None:
    arguments = ["walkS", "--source", str(source), "--output", str(tmp_path), *ARGUMENTS]
    assert main(arguments) == 0
    folder = tmp_path / "walkS"
    facts = json.loads((folder / "manifest.json").read_text())
    assert facts["source"].startswith("youtube.com/")
    for part, frames in (("profile", 30), ("eval", 60)):
        check_sha256(folder / f"{part}.mp4", facts["parts"][part]["sha256"], part)
        with av.open(str(folder / f"{part}.mp4")) as clip:
            stream = clip.streams.video[0]
            assert (stream.average_rate, stream.width, stream.height) == (30, *SIZE)
            assert sum(1 for _ in clip.decode(stream)) == frames
    stamps = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.mp4")}
    (folder / "profile.mp4").write_bytes(b"damaged")
    assert main(arguments) == 0  # only the damaged part is cut again
    assert (folder / "eval.mp4").stat().st_mtime_ns == stamps["eval.mp4"]
    check_sha256(folder / "profile.mp4", facts["parts"]["profile"]["sha256"], "profile")


def test_parts_of_a_phone_video_are_upright_with_square_pixels(tmp_path: Path) -> None:
    path = tmp_path / "phone.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=FPS)
        stream.width, stream.height = 72, 54
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)  # 96x54 in square pixels
        stream.set_display_rotation(-90)
        image = np.vstack([np.full((27, 72, 3), level, np.uint8) for level in (40, 200)])
        for _ in range(FRAMES):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(stream.encode())
    assert main(["walkS", "--source", str(path), "--output", str(tmp_path), *ARGUMENTS]) == 0
    with av.open(str(tmp_path / "walkS" / "eval.mp4")) as clip:
        shown = next(clip.decode(video=0)).to_ndarray(format="rgb24")
    assert shown.shape == (96, 54, 3)
    assert [shown[48, 5, 0], shown[48, -5, 0]] == pytest.approx([200, 40], abs=4)  # turned clockwise


def test_a_cut_clip_is_found_by_its_name(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vitmalis.video.clips import resolve_clip

    monkeypatch.chdir(tmp_path)
    assert main(["walkS", "--source", str(source), *ARGUMENTS]) == 0
    clip = resolve_clip("walkS", part="eval", seconds=1, max_width=64, max_height=48, cache_dir=tmp_path / "cache")
    assert clip.stand_in == ""
    assert Path(clip.path).name == "eval.mp4"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["walkB"], "cannot be downloaded (shot by the paper's authors; not published): give a file"),
        (["walkS", "--source", "nowhere.mp4"], "'nowhere.mp4' cannot be read"),
        (["walkS", "--eval-start-s", "90"], "overlap"),
        (["walkS", "--profile-seconds", "0"], "give a start from 0"),
    ],
)
def test_mistakes_are_one_clear_line(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert words in capsys.readouterr().err


def test_without_yt_dlp_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = builtins.__import__

    def no_yt_dlp(name: str, *rest: Any) -> Any:
        if name.startswith("yt_dlp"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", no_yt_dlp)
    monkeypatch.setenv("VITMALIS_CACHE", str(tmp_path))
    assert main(["walkS", "--output", str(tmp_path)]) == 2
    assert "pip install 'vitmalis[fetch]'" in capsys.readouterr().err


def test_offline_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("yt_dlp", reason="the extra 'fetch' is not installed")
    monkeypatch.setenv("VITMALIS_CACHE", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
    assert main(["walkS", "--output", str(tmp_path)]) == 2
    assert "could not be downloaded" in capsys.readouterr().err


class Loader:
    """A replacement of yt-dlp's class that fails half-way in the first call and finishes in the second."""

    stops = True

    def __init__(self, options: dict[str, Any]) -> None:
        self.path = Path(options["outtmpl"].replace("%(ext)s", "webm"))
        assert options["continuedl"]

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def extract_info(self, url: str) -> dict[str, Any]:
        assert url == "https://www.youtube.com/watch?v=0gnm6gGMC3c"
        fragment = self.path.with_name(f"{self.path.name}.part-Frag3")
        if Loader.stops:
            Loader.stops = False
            fragment.write_bytes(b"half")
            raise StoppedError("ERROR: [youtube] connection\nlost")
        fragment.replace(self.path)
        return {}

    def prepare_filename(self, _: dict[str, Any]) -> str:
        return str(self.path)


class StoppedError(Exception):
    pass


def test_a_download_is_resumed_and_kept_once_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yt_dlp", SimpleNamespace(YoutubeDL=Loader))
    monkeypatch.setitem(sys.modules, "yt_dlp.utils", SimpleNamespace(DownloadError=StoppedError))
    entry = clip_entry("walkS")
    with pytest.raises(
        UserError, match=r"could not be downloaded \(\[youtube\] connection lost\); the partial download is kept"
    ):
        download_video("walkS", entry, tmp_path)
    whole = download_video("walkS", entry, tmp_path)
    assert whole == tmp_path / "walkS.webm"
    assert whole.read_bytes() == b"half"
    monkeypatch.setitem(sys.modules, "yt_dlp", None)  # not needed again
    assert download_video("walkS", entry, tmp_path) == whole


def test_only_the_video_that_the_manifest_knows_is_taken(tmp_path: Path) -> None:
    entry = msgspec.structs.replace(clip_entry("walkS"), sha256=hashlib.sha256(b"the video").hexdigest())
    (tmp_path / "walkS.txt").write_bytes(b"a note, which comes first")
    (tmp_path / "walkS.webm").write_bytes(b"the video")
    assert download_video("walkS", entry, tmp_path) == tmp_path / "walkS.webm"
    (tmp_path / "walkS.webm").write_bytes(b"another video")
    with pytest.raises(UserError, match=r"video 'walkS': .*walkS\.webm' has sha256 [0-9a-f]{12}\.\.\., expected"):
        download_video("walkS", entry, tmp_path)
    (tmp_path / "walkS.mp4").write_bytes(b"the video")
    with pytest.raises(UserError, match=r"several files for it \(walkS\.mp4, walkS\.webm\): remove all but one"):
        download_video("walkS", entry, tmp_path)
