"""Resolving clips by name: downloaded, split, shortened, rendered once; mistakes are one line."""

from __future__ import annotations

import csv
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from vitmalis.errors import UserError
from vitmalis.paths import file_sha256
from vitmalis.types import RgbImage
from vitmalis.video import market1906
from vitmalis.video.clips import resolve_clip
from vitmalis.video.encode import Progress, write_clip
from vitmalis.video.manifest import ClipEntry, clip_entry, manifest
from vitmalis.video.probe import probe
from vitmalis.video.spec import open_video
from vitmalis.video.standin import PROFILES
from vitmalis.video.standin import clip as standin_clip


def uniform_images(frames: int, width: int = 64, height: int = 36) -> list[RgbImage]:
    """Uniform images, which survive compression: frame i has the brightness 8 * i."""
    return [np.full((height, width, 3), 8 * i, np.uint8) for i in range(frames)]


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "own.mp4"
    write_clip(path, uniform_images(25), 10.0, (64, 36))
    return path


def test_written_clips_read_back(video: Path, tmp_path: Path) -> None:
    file = probe(video)
    assert (file.rate.fps, file.frames, file.size) == (10.0, 25, (64, 36))
    spec = resolve_clip("file", path=str(video), seconds=2.5, cache_dir=tmp_path, max_width=64, max_height=36)
    for i, image in enumerate(open_video(spec)):
        assert abs(float(image.mean()) - 8 * i) < 2


def test_a_file_is_cut_and_enlarged_to_the_limits(video: Path, tmp_path: Path) -> None:
    spec = resolve_clip("file", path=str(video), seconds=1.0, start_s=0.5, cache_dir=tmp_path)
    assert (spec.name, spec.fps, spec.start_frame, spec.frames) == ("own", 10.0, 5, 10)
    assert (spec.width, spec.height) == (960, 540)
    assert spec.note == spec.stand_in == ""
    images = list(open_video(spec))
    assert len(images) == 10
    assert abs(float(images[0].mean()) - 40) < 2


@pytest.mark.parametrize(("frames", "length"), [(1, "0.033"), (59, "1.967")])
def test_a_clip_that_is_a_frame_long_or_too_short_says_so(frames: int, length: str, tmp_path: Path) -> None:
    write_clip(tmp_path / "own.mp4", [np.zeros((36, 64, 3), np.uint8)] * frames, 30, (64, 36))
    spec = resolve_clip("file", path=str(tmp_path / "own.mp4"), seconds=2, cache_dir=tmp_path)
    assert spec.note == f"the clip ends after {length} of 2 s"


def test_a_clip_that_ends_early_is_played_to_its_end_and_says_so(video: Path, tmp_path: Path) -> None:
    spec = resolve_clip("file", path=str(video), seconds=300, start_s=1.0, cache_dir=tmp_path)
    assert spec.frames == 15
    assert spec.note == "the clip ends after 1.5 of 300 s"
    with pytest.raises(UserError, match=r"has 2\.5 s, none from eval\.start_s=3"):
        resolve_clip("file", path=str(video), seconds=1, start_s=3, cache_dir=tmp_path)


def test_a_camera_takes_an_index_or_a_pipeline(tmp_path: Path) -> None:
    spec = resolve_clip("camera", path="0", seconds=2, fps=15, cache_dir=tmp_path)
    assert (spec.path, spec.fps, spec.frames, spec.live) == ("camera:0", 15, 30, True)
    pipeline = "videotestsrc ! videoconvert ! appsink"
    assert resolve_clip("camera", path=pipeline, cache_dir=tmp_path).path == pipeline


def test_mistakes_name_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'marketstreet' is unknown: choose one of market1906, .*walkS"):
        resolve_clip("marketstreet", cache_dir=tmp_path)
    with pytest.raises(UserError, match=r"needs video\.path"):
        resolve_clip("file", cache_dir=tmp_path)
    with pytest.raises(UserError, match=r"there is no file 'nowhere\.mp4'"):
        resolve_clip("file", path="nowhere.mp4", cache_dir=tmp_path)
    with pytest.raises(UserError, match=r"get github\.com/udacity/.* \(MIT \(Udacity\)\)"):
        resolve_clip("drive_day", folder=str(tmp_path), cache_dir=tmp_path)
    (tmp_path / "drive_day.mp4").write_bytes(b"another file")
    with pytest.raises(UserError, match=r"has sha256 .* expected 828df7533d8a"):
        resolve_clip("drive_day", folder=str(tmp_path), cache_dir=tmp_path)
    with pytest.raises(UserError, match="cannot be read as a video"):
        resolve_clip("file", path=str(tmp_path / "drive_day.mp4"), cache_dir=tmp_path)


def test_parts_of_the_manifest_do_not_overlap_and_both_exist() -> None:
    for name, entry in manifest().items():
        if entry.kind == "paper":
            assert name in PROFILES
            assert entry.profile_frames == entry.frames == 0
        else:
            assert 0 <= entry.profile_frames < entry.frames
            assert (entry.profile_frames == 0) == (name == "market1906_demo")
            assert len(entry.sha256) == 64
        if entry.kind == "repository":
            assert (len(entry.commit), entry.file) == (40, f"{name}.mp4")
            assert entry.source == f"github.com/{entry.repository}, {entry.path} ({entry.commit[:10]})"
    assert manifest()["market1906"].profile_frames == 40 * 16
    assert set(standin_clip.SEEDS) == {"profile", "eval"}
    assert len(set(standin_clip.SEEDS.values())) == 2


def test_manifest_agrees_with_the_real_clips(shared: Path, tmp_path: Path) -> None:
    folder = shared / "data" / "clips"
    with (folder / "clips.csv").open() as table:
        rows = {row["name"]: row for row in csv.DictReader(table)}
    for name, row in rows.items():
        entry = manifest()[name]
        assert entry.sha256 == row["sha256"]
        if entry.kind == "folder":
            assert entry.frames == int(row["frames"])
            parts = [
                resolve_clip(name, part=part, seconds=60, folder=str(folder), cache_dir=tmp_path)
                for part in ("profile", "eval")
            ]
            assert parts[0].start_frame == 0
            assert parts[1].start_frame == parts[0].frames == round(entry.frames * 2 / 3)
            assert parts[1].start_frame + parts[1].frames == entry.frames


def small_drive(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a clip of 20 frames, and have the manifest know it as `drive_rain`, 8 frames of it for profiling."""
    write_clip(path, uniform_images(20), 30.0, (64, 36))
    small = msgspec.structs.replace(clip_entry("drive_rain"), sha256=file_sha256(path), frames=18, profile_frames=8)
    monkeypatch.setitem(manifest(), "drive_rain", small)


def test_a_published_clip_is_downloaded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, publisher: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    small_drive(tmp_path / "mirror/lane_detecting/videos/rainy.mp4", monkeypatch)
    specs = [resolve_clip("drive_rain", cache_dir=tmp_path / "cache") for _ in range(2)]
    profile = resolve_clip("drive_rain", part="profile", cache_dir=tmp_path / "cache")
    assert publisher == ["/tmo324/lane_detecting/a4b614b17199b3683200b93791dde862c40e32d3/videos/rainy.mp4"]
    assert specs[0] == specs[1]
    assert specs[0].path == str(tmp_path / "cache/video/drive_rain/drive_rain.mp4")
    assert (profile.start_frame, profile.frames) == (0, 8)
    assert (specs[0].start_frame, specs[0].frames) == (8, 10)  # of 20 in the file, the manifest plays 18


def test_your_copy_of_a_published_clip_is_preferred(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, publisher: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    small_drive(Path("data/clips/drive_rain.mp4"), monkeypatch)
    assert resolve_clip("drive_rain", cache_dir=tmp_path).path == "data/clips/drive_rain.mp4"
    own = resolve_clip("drive_rain", folder=str(tmp_path / "data/clips"), cache_dir=tmp_path)
    assert own.path == str(tmp_path / "data/clips/drive_rain.mp4")
    assert publisher == []


def test_another_file_is_not_taken_for_a_published_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, publisher: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    served = tmp_path / "mirror/lane_detecting/videos/rainy.mp4"
    small_drive(served, monkeypatch)
    served.write_bytes(b"another file")
    for _ in range(2):
        with pytest.raises(UserError, match=r"rainy\.mp4 is refused: sha256 .* of commit a4b614b"):
            resolve_clip("drive_rain", cache_dir=tmp_path)
    assert len(publisher) == 2, "a refused file is not kept"


def test_without_a_network_a_published_clip_names_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vitmalis.repository_files.HOST", "http://127.0.0.1:9")
    with pytest.raises(UserError) as caught:
        resolve_clip("drive_rain", cache_dir=tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    assert "lane_detecting" in message
    assert message.endswith("put it at 'data/clips/drive_rain.mp4' (or in a folder of your own with video.folder)")


def test_the_papers_videos_are_preferred_to_stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_clip(Path("data/videos/walkR/eval.mp4"), uniform_images(20), 30.0, (64, 36))
    spec = resolve_clip("walkR", seconds=0.5, cache_dir=tmp_path)
    assert Path(spec.path) == Path("data/videos/walkR/eval.mp4")
    assert spec.stand_in == ""


def test_the_users_data_are_found_in_other_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITMALIS_DATA", str(tmp_path / "mine"))
    for folder in ("mine/videos", "other"):
        write_clip(tmp_path / folder / "walkR" / "eval.mp4", uniform_images(20), 30.0, (64, 36))
    assert resolve_clip("walkR", cache_dir=tmp_path).path == str(tmp_path / "mine/videos/walkR/eval.mp4")
    other = resolve_clip("walkR", folder=str(tmp_path / "other"), cache_dir=tmp_path)
    assert other.path == str(tmp_path / "other/walkR/eval.mp4")
    with pytest.raises(UserError, match=r"mine/clips/drive_day\.mp4"):
        resolve_clip("drive_day", cache_dir=tmp_path)


def test_a_stand_in_is_rendered_once_and_says_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rendered: list[tuple[str, int, int]] = []

    def render(name: str, seed: int, fps: float, frames: int, progress: Progress) -> Iterator[RgbImage]:
        rendered.append((name, seed, frames))
        yield from uniform_images(frames, *standin_clip.SIZE)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(standin_clip, "_render", render)
    first, second = (resolve_clip("walkS", seconds=0.1, start_s=0.1, cache_dir=tmp_path) for _ in range(2))
    other = resolve_clip("walkS", part="profile", seconds=0.2, cache_dir=tmp_path)
    assert first == second
    assert (first.start_frame, first.frames, first.width, first.height) == (3, 3, 960, 540)
    assert first.stand_in.startswith("rendered street scene for 'Countryside walk, sunny'")
    assert other.path != first.path
    assert [(name, frames) for name, _, frames in rendered] == [("walkS", 6), ("walkS", 6)]
    assert rendered[0][1] != rendered[1][1]


def small_market(path: Path) -> None:
    """Write eight frames with bars at their sides, four of them repeated."""
    images = []
    for level in (0, 0, 40, 40, 40, 80, 120, 120):
        image = np.zeros((360, 640, 3), np.uint8)
        image[:, slice(*market1906.COLUMNS)] = level
        images.append(image)
    write_clip(path, images, 30.0, (640, 360))


def test_repeated_frames_and_bars_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "sample.mp4"
    small_market(path)
    kept = list(market1906.distinct_frames(path))
    assert [index for index, _, _ in kept] == [0, 2, 5, 6]
    assert all(image.shape == (360, 540, 3) for *_, image in kept)
    assert abs(float(kept[1][2].mean()) - 40) < 2


def test_a_range_of_the_video_is_a_clip_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = tmp_path / "video" / "market1906" / "sample.mp4"
    original.parent.mkdir(parents=True)
    small_market(original)
    changes = {"sha256": file_sha256(original), "first_frame": 1, "frames": 2}
    monkeypatch.setitem(
        manifest(), "market1906_demo", msgspec.structs.replace(clip_entry("market1906_demo"), **changes)
    )
    clip = resolve_clip("market1906_demo", cache_dir=tmp_path)
    assert (clip.start_frame, clip.frames) == (0, 2)
    assert [round(float(image.mean()), -1) for image in open_video(clip)] == [40, 80]
    assert Path(clip.path).with_name(market1906.LISTING).read_text() == "2\n5"
    assert not original.with_name("market1906.mp4").exists(), "the whole video is still to be prepared"
    with pytest.raises(UserError, match="'market1906_demo' has no profile part: choose another clip"):
        resolve_clip("market1906_demo", part="profile", cache_dir=tmp_path)


def test_a_failed_download_of_market1906_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for printed, shown, remedy in (
        ("WARNING: retrying\nERROR: No matching distribution found\n", "ERROR: No matching", "check the network"),
        ("/venv/bin/python: No module named pip\n", "/venv/bin/python: No module", "run python -m ensurepip"),
    ):
        failed = subprocess.CompletedProcess[str]([], 1, "", printed)
        monkeypatch.setattr(subprocess, "run", lambda *_, failed=failed, **__: failed)
        with pytest.raises(
            UserError, match=rf"could not download \({shown}.*\): {remedy}, or choose a .* walkS"
        ) as caught:
            resolve_clip("market1906", cache_dir=tmp_path)
        assert "\n" not in str(caught.value)


def test_market1906_with_another_checksum_is_refused(tmp_path: Path) -> None:
    entry = ClipEntry("package", "t", "s", "l", 16.0, file="sample.mp4", sha256="0" * 64, profile_frames=1)
    (tmp_path / "sample.mp4").write_bytes(b"not it")
    with pytest.raises(UserError, match="has sha256"):
        market1906.prepare(entry, tmp_path / "market1906.mp4", tmp_path / "sample.mp4", lambda *_: None)
    assert not (tmp_path / "market1906.mp4").exists()
