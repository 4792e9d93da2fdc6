"""Resolving a clip by name to a playable video: downloaded, cut or rendered once, and checked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vitmalis.errors import UserError
from vitmalis.locks import file_lock
from vitmalis.paths import data_dir
from vitmalis.video import market1906
from vitmalis.video.encode import Progress
from vitmalis.video.manifest import ClipEntry, check_sha256, clip_entry
from vitmalis.video.probe import playable, probe
from vitmalis.video.spec import CAMERA_PREFIX, VideoSpec, fit_size
from vitmalis.video.standin.clip import SIZE as STAND_IN_SIZE
from vitmalis.video.standin.clip import render_clip

Part = Literal["profile", "eval"]


@dataclass(frozen=True, slots=True)
class _Footage:
    """A video file and the range of its frames that may be played; `ends` says why there are no more, if known."""

    path: Path
    fps: float
    first_frame: int
    frames: int
    size: tuple[int, int]
    stream: int | None = None
    stand_in: str = ""
    ends: str = ""
    by_time: bool = False


def resolve_clip(
    name: str,
    *,
    part: Part = "eval",
    seconds: float = 10.0,
    start_s: float = 0.0,
    max_width: int = 960,
    max_height: int = 540,
    cache_dir: Path,
    progress: Progress = lambda *_: None,
    path: str | None = None,
    folder: str | None = None,
    fps: float | None = None,
) -> VideoSpec:
    """Find or make the clip called `name`, and choose the frames to play.

    Args:
        name: a clip of the manifest; "file" with `path`; or "camera" with `path` (an index, or a GStreamer pipeline).
        part: "profile" for profiling and training, "eval" for evaluation; the whole of a user's file serves as both.
        seconds, start_s: length, and offset inside the part; a shorter clip is played to its end, with a note.
        max_width, max_height: limits of the delivered size, pixels.
        cache_dir: folder for clips that are made once.
        progress: called while a clip is made.
        folder: where a "folder" clip (`<file>`) or a "paper" clip (`<name>/<part>.mp4`) lies; by default `clips` or
            `videos` in the user's data (`vitmalis.paths.data_dir`).
        fps: rate of a camera, or a rate that replaces the file's.

    Raises:
        UserError: the name is unknown, the file is missing or another one, or no frames remain to play.
    """
    _check_numbers(seconds, start_s, fps)
    if name == "camera":
        return _live(path, seconds, fps or 30.0, max_width, max_height)
    footage = _footage(name, part, seconds + start_s, cache_dir, progress, path, folder, fps)
    rate = fps or footage.fps
    start, wanted = round(start_s * rate), round(seconds * rate)
    if wanted < 1:
        raise UserError(
            f"eval.seconds={seconds:g} is less than one frame at {rate:g} FPS: ask for at least {1 / rate:.3f}"
        )
    frames = min(wanted, footage.frames - start)
    if frames < 1:
        length = f"video '{name}' has {footage.frames / rate:.1f} s in its {part} part"
        raise UserError(f"{length}, none from eval.start_s={start_s:g} on: start earlier")
    notes = [f"its frame rate varies: resampled by time to {rate:.4g} FPS"] if footage.by_time else []
    if frames < wanted:
        notes.append(_short(frames / rate, seconds, footage.ends))
    width, height = fit_size(*footage.size, max_width, max_height)
    return VideoSpec(
        name=Path(str(path)).stem if name == "file" else name,
        path=str(footage.path),
        fps=rate,
        start_frame=footage.first_frame + start,
        frames=frames,
        width=width,
        height=height,
        stand_in=footage.stand_in,
        note="; ".join(notes),
        stream=footage.stream,
        by_time=footage.by_time,
    )


def _check_numbers(seconds: float, start_s: float, fps: float | None) -> None:
    for option, value, valid in (
        ("eval.seconds", seconds, seconds > 0),
        ("eval.start_s", start_s, start_s >= 0),
        ("video.fps", fps or 0, fps is None or fps > 0),
    ):
        if not (valid and math.isfinite(value)):
            least = "0 or more" if option == "eval.start_s" else "more than 0"
            raise UserError(f"{option}={value:g} must be a number, {least}")


def _short(played_s: float, seconds: float, reason: str) -> str:
    return f"the clip ends after {played_s:.1f} of {seconds:g} s" + (f": {reason}" if reason else "")


def _footage(
    name: str,
    part: Part,
    length_s: float,
    cache_dir: Path,
    progress: Progress,
    path: str | None,
    folder: str | None,
    fps: float | None,
) -> _Footage:
    if name == "file":
        if path is None:
            raise UserError("video=file needs video.path=<a video file>")
        return _whole_file(Path(path), f"video '{path}'", length_s, fps)
    entry = clip_entry(name)
    if entry.kind == "package":
        return _part_of(_packaged(name, entry, cache_dir, progress), entry, part)
    if entry.kind == "folder":
        return _part_of(_in_folder(name, entry, folder), entry, part)
    own = (Path(folder) if folder else data_dir() / "videos") / name
    if (own / f"{part}.mp4").is_file():
        return _whole_file(own / f"{part}.mp4", f"video '{name}'", length_s, fps)
    return _stand_in(name, entry, part, own, length_s, cache_dir, progress)


def _packaged(name: str, entry: ClipEntry, cache_dir: Path, progress: Progress) -> Path:
    folder = cache_dir / "video" / name
    clip = folder / f"{name}.mp4"
    with file_lock(folder / "lock"):  # runs that start together prepare it once
        prepared = clip.is_file() and (folder / market1906.LISTING).is_file()
        return clip if prepared else market1906.prepare(entry, folder, progress)


def _in_folder(name: str, entry: ClipEntry, folder: str | None) -> Path:
    path = (Path(folder) if folder else data_dir() / "clips") / entry.file
    if not path.is_file():
        raise UserError(
            f"video '{name}': there is no file '{path}': get {entry.source} ({entry.licence}), "
            "put it there under that name or set video.folder"
        )
    check_sha256(path, entry.sha256, f"video '{name}'")
    return path


def _part_of(path: Path, entry: ClipEntry, part: Part) -> _Footage:
    file = probe(path)
    first, end = (0, entry.profile_frames) if part == "profile" else (entry.profile_frames, file.frames)
    return _Footage(path, entry.fps, first, end - first, file.size, file.stream)


def _whole_file(path: Path, what: str, length_s: float, fps: float | None) -> _Footage:
    if not path.is_file():
        raise UserError(f"{what}: there is no file '{path}'")
    file = probe(path)
    rate = fps or file.rate.fps
    if rate is None:
        raise UserError(f"{what} does not say its frame rate: give it with video.fps=<frames per second>")
    by_time = file.rate.varies and fps is None
    content = playable(file, max(1, round(length_s * rate)), by_time)
    return _Footage(path, rate, 0, content.frames, file.size, file.stream, ends=content.reason, by_time=by_time)


def _stand_in(
    name: str, entry: ClipEntry, part: Part, own: Path, length_s: float, cache_dir: Path, progress: Progress
) -> _Footage:
    frames = round(length_s * entry.fps)
    path = render_clip(name, part, entry.fps, frames, cache_dir / "video" / "standin", progress)
    note = f"rendered street scene for '{entry.title}' (put the real one at {own})"
    return _Footage(path, entry.fps, 0, frames, STAND_IN_SIZE, stand_in=note)


def _live(path: str | None, seconds: float, fps: float, max_width: int, max_height: int) -> VideoSpec:
    source = str(path if path is not None else 0)
    return VideoSpec(
        name="camera",
        path=f"{CAMERA_PREFIX}{source}" if source.isdigit() else source,
        fps=fps,
        start_frame=0,
        frames=round(seconds * fps),
        width=max_width,
        height=max_height,
        live=True,
    )
