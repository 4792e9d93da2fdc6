"""Resolving a clip by name to a playable video: downloaded, cut or rendered once, and checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from vitmalis.errors import UserError
from vitmalis.locks import file_lock
from vitmalis.paths import data_dir
from vitmalis.repository_files import download_file
from vitmalis.video import market1906
from vitmalis.video.encode import Progress
from vitmalis.video.live import live_source
from vitmalis.video.manifest import ClipEntry, check_sha256, clip_entry
from vitmalis.video.probe import playable, probe
from vitmalis.video.source import build_source, rendered
from vitmalis.video.spec import VideoSpec, fit_size
from vitmalis.video.standin.clip import SIZE as STAND_IN_SIZE
from vitmalis.video.standin.clip import render_clip

Part = Literal["profile", "eval"]

MIN_SIDE = 16
"""Shortest side of a delivered image, pixels: one patch of the detector."""
MAX_RENDERED_S = 3600.0
"""Longest stand-in that is rendered; the paper plays 300 s."""


@dataclass(frozen=True, slots=True)
class _Footage:
    """A video file and the range of its frames that may be played; `ends` says why there are no more, if known.

    `what` names it in errors, `notes` hold what a reader of results must know about it.
    """

    what: str
    path: Path
    fps: float
    first_frame: int
    frames: int
    size: tuple[int, int]
    stream: int | None = None
    stand_in: str = ""
    ends: str = ""
    by_time: bool = False
    notes: tuple[str, ...] = ()


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
    target: str = "",
    options: Mapping[str, Any] | None = None,
) -> VideoSpec:
    """Find or make the clip called `name`, and choose the frames to play.

    Args:
        name: a clip of the manifest; "file" with `path`; "camera" with `path` (an index, or see `live_images`); or any
            name with `target`.
        part: "profile" for profiling and training, "eval" for evaluation; the whole of a user's file serves as both.
        seconds: length; a shorter clip is played to its end, with a note.
        start_s: offset inside the part.
        max_width: limit of the delivered size, pixels.
        max_height: limit of the delivered size, pixels.
        cache_dir: folder for clips that are made once.
        progress: called while a clip is made.
        folder: where a "folder" or "repository" clip (`<file>`) or a "paper" clip (`<name>/<part>.mp4`) lies; by
            default `clips` or `videos` in the user's data (`vitmalis.paths.data_dir`).
        fps: rate of a camera, or a rate that replaces the file's.
        target, options: class of a `VideoSource` of another package, and its options.

    Raises:
        UserError: the name is unknown, the file is missing or another one, or no frames remain to play.
    """
    _check_numbers(seconds, start_s, fps)
    if name == "camera":
        return _live(path, seconds, fps or 30.0, max_width, max_height)
    if target:
        footage = _sourced(name, target, options or {}, cache_dir, progress)
    else:
        footage = _footage(name, part, seconds + start_s, cache_dir, progress, path, folder, fps)
    footage = replace(footage, fps=fps or footage.fps)
    played, ends = _played(footage, seconds, start_s)
    width, height = _delivered_size(footage, max_width, max_height)
    return VideoSpec(
        name=Path(str(path)).stem if name == "file" else name,
        path=str(footage.path),
        fps=footage.fps,
        start_frame=played.start,
        frames=len(played),
        width=width,
        height=height,
        stand_in=footage.stand_in,
        note="; ".join([*footage.notes, *ends]),
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


def _played(footage: _Footage, seconds: float, start_s: float) -> tuple[range, list[str]]:
    """The frames of the file that are played, and a note if there are fewer than wanted."""
    start, wanted = round(start_s * footage.fps), round(seconds * footage.fps)
    if wanted < 1:
        least_s = 1 / footage.fps
        raise UserError(
            f"eval.seconds={seconds:g} is less than one frame at {footage.fps:g} FPS: ask for at least {least_s:.3f}"
        )
    frames = min(wanted, footage.frames - start)
    if frames < 1:
        length = f"{footage.what} has {_length(footage.frames / footage.fps)} s"
        raise UserError(f"{length}, none from eval.start_s={start_s:g} on: start earlier")
    first = footage.first_frame + start
    played = range(first, first + frames)
    if frames == wanted:
        return played, []
    end = f"the clip ends after {_length(frames / footage.fps)} of {seconds:g} s"
    return played, [f"{end}: {footage.ends}" if footage.ends else end]


def _length(seconds: float) -> str:
    """Seconds to the millisecond, so that a clip that is a frame too short does not look whole."""
    return f"{seconds:.3f}".rstrip("0").rstrip(".")


def _delivered_size(footage: _Footage, max_width: int, max_height: int) -> tuple[int, int]:
    width, height = fit_size(*footage.size, max_width, max_height)
    if min(width, height) < MIN_SIDE:
        raise UserError(
            f"{footage.what}: its images of {'x'.join(map(str, footage.size))} pixels become {width}x{height} within "
            f"model.max_width={max_width}, model.max_height={max_height}; no side may be below {MIN_SIDE}"
        )
    return width, height


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
    entry, what = clip_entry(name), f"video '{name}'"
    if entry.kind == "package":
        return _part_of(_packaged(name, entry, cache_dir, progress), what, entry, part)
    if entry.kind == "folder":
        return _part_of(_in_folder(what, entry, folder), what, entry, part)
    if entry.kind == "repository":
        return _part_of(_published(name, what, entry, folder, cache_dir), what, entry, part)
    own = (Path(folder) if folder else data_dir() / "videos") / name
    if (own / f"{part}.mp4").is_file():
        return _whole_file(own / f"{part}.mp4", what, length_s, fps)
    return _stand_in(name, entry, part, own, length_s, cache_dir, progress)


def _packaged(name: str, entry: ClipEntry, cache_dir: Path, progress: Progress) -> Path:
    folder = cache_dir / "video" / name
    clip = folder / f"{name}.mp4"
    with file_lock(folder / "lock"):  # runs that start together prepare it once
        if not (clip.is_file() and (folder / market1906.LISTING).is_file()):
            market1906.prepare(entry, clip, cache_dir / "video" / "market1906" / entry.file, progress)
    return clip


def _own_file(entry: ClipEntry, folder: str | None) -> Path:
    return (Path(folder) if folder else data_dir() / "clips") / entry.file


def _in_folder(what: str, entry: ClipEntry, folder: str | None) -> Path:
    path = _own_file(entry, folder)
    if not path.is_file():
        raise UserError(
            f"{what}: there is no file '{path}': get {entry.source} ({entry.licence}), "
            "put it there under that name or set video.folder"
        )
    check_sha256(path, entry.sha256, what)
    return path


def _published(name: str, what: str, entry: ClipEntry, folder: str | None, cache_dir: Path) -> Path:
    """The user's file of a published clip, or the one in the cache, which is downloaded once."""
    own, path = _own_file(entry, folder), cache_dir / "video" / name / entry.file
    if own.is_file():
        path = own
    else:
        with file_lock(path.with_name("lock")):  # runs that start together download it once
            if not path.is_file():
                download_file(
                    entry.published,
                    path,
                    f"check the network, or fetch it by other means and put it at '{own}' (or in a folder of your own "
                    "with video.folder)",
                )
    check_sha256(path, entry.sha256, what)
    return path


def _part_of(path: Path, what: str, entry: ClipEntry, part: Part) -> _Footage:
    first, end = (0, entry.profile_frames) if part == "profile" else (entry.profile_frames, entry.frames)
    if first == end:
        raise UserError(f"{what} has no {part} part: choose another clip, or eval.part=eval")
    file = probe(path)
    return _Footage(f"the {part} part of {what}", path, entry.fps, first, end - first, file.size, file.stream)


def _whole_file(path: Path, what: str, length_s: float, fps: float | None) -> _Footage:
    if not path.is_file():
        raise UserError(f"{what}: there is no file '{path}'")
    file = probe(path)
    rate = fps or file.rate.fps
    if rate is None:
        raise UserError(f"{what} does not say its frame rate: give it with video.fps=<frames per second>")
    by_time = file.rate.varies and fps is None
    content = playable(file, max(1, round(length_s * rate)), by_time)
    resampled = [f"its frame rate varies: resampled by time to {rate:.4g} FPS"] if by_time else []
    return _Footage(
        what, path, rate, 0, content.frames, file.size, file.stream,
        ends=content.reason, by_time=by_time, notes=(*file.notes, *resampled),
    )  # fmt: skip


def _stand_in(
    name: str, entry: ClipEntry, part: Part, own: Path, length_s: float, cache_dir: Path, progress: Progress
) -> _Footage:
    if length_s > MAX_RENDERED_S:
        raise UserError(
            f"video '{name}': a rendered stand-in of {length_s:g} s would be too long, the limit is {MAX_RENDERED_S:g} "
            f"s: ask for less, or put the real one at {own}"
        )
    frames = round(length_s * entry.fps)
    path = render_clip(name, part, entry.fps, frames, cache_dir / "video" / "standin", progress)
    note = f"rendered street scene for '{entry.title}' (put the real one at {own})"
    return _Footage(f"video '{name}'", path, entry.fps, 0, frames, STAND_IN_SIZE, stand_in=note)


def _sourced(name: str, target: str, options: Mapping[str, Any], cache_dir: Path, progress: Progress) -> _Footage:
    source = build_source(name, target, options)
    path = rendered(name, source, options, cache_dir / "video" / "custom", progress)
    return _Footage(f"video '{name}'", path, source.fps, 0, source.frames, source.size, stand_in=source.stand_in)


def _live(path: str | None, seconds: float, fps: float, max_width: int, max_height: int) -> VideoSpec:
    return VideoSpec(
        name="camera",
        path=live_source(path),
        fps=fps,
        start_frame=0,
        frames=round(seconds * fps),
        width=max_width,
        height=max_height,
        live=True,
    )
