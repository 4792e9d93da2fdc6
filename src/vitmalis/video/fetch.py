"""Download and cut the paper's videos: `python -m vitmalis.video.fetch walkS` (docs/videos.md).

The paper takes a 60 s clip for training and profiling and another of 300 s for evaluation from each video (section
VI-A). It does not say where they begin, so that is an option here. A video is downloaded once with yt-dlp and cut
locally, at a fixed rate and size. `manifest.json`, next to the parts, records their source and their checksums.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import msgspec
from rich.console import Console
from rich.progress import Progress

from vitmalis.command_line import CommandLine
from vitmalis.errors import UserError
from vitmalis.paths import atomic_path, cache_dir, data_dir, file_sha256
from vitmalis.types import RgbImage
from vitmalis.untrusted_files import decode_json
from vitmalis.video.decode import bound_size, open_container, upright_image, video_stream
from vitmalis.video.encode import write_clip
from vitmalis.video.fetch_download import MAX_HEIGHT, download_video
from vitmalis.video.manifest import ClipEntry, clip_entry, manifest
from vitmalis.video.probe import probe
from vitmalis.video.spec import fit_size, resize

SIZE = (1920, MAX_HEIGHT)
"""Largest width and height of a part; a smaller video is not enlarged."""
MANIFEST_FILE = "manifest.json"


class CutPart(msgspec.Struct, frozen=True):
    """One part that was cut: its range in the source video, its format, and the checksum of its file."""

    start_s: float
    seconds: float
    fps: float
    width: int
    height: int
    sha256: str


class CutManifest(msgspec.Struct, frozen=True):
    """Content of `manifest.json`: the parts in a clip's folder, and the file they were cut from."""

    source: str
    source_sha256: str
    parts: dict[str, CutPart]


def frames_at(path: Path, start_s: float, fps: float, count: int, size: tuple[int, int]) -> Iterator[RgbImage]:
    """Resample a video to a constant rate: at each time, the image that is on screen then.

    Args:
        path: the video, whose rate may differ or vary.
        start_s: time of the first image.
        fps: rate of the images.
        count: number of images.
        size: (width, height) of the images.

    Raises:
        UserError: the video cannot be read, or ends too early.
    """
    file = probe(path)
    try:
        with open_container(path) as container:
            stream = video_stream(container, file.stream)
            bound_size(container, stream)
            stream.thread_type = "AUTO"
            origin = stream.start_time or 0
            if stream.time_base is not None:
                container.seek(origin + int(start_s / stream.time_base), stream=stream)
            done, shown = 0, None
            for frame in container.decode(stream):
                if frame.pts is None or frame.time_base is None:
                    raise UserError(f"video '{path}' does not say when its frames are shown: remux it into an mp4 file")
                time_s = float((frame.pts - origin) * frame.time_base)
                while shown is not None and done < count and start_s + done / fps < time_s - 1e-6:
                    yield resize(upright_image(shown), *size)
                    done += 1
                if done == count:
                    return
                shown = frame
            if shown is not None and done == count - 1:  # the last frame has no successor that ends it
                yield resize(upright_image(shown), *size)
                done += 1
    except av.FFmpegError as error:
        raise UserError(f"video '{path}' cannot be decoded: {error.strerror}") from error
    if done < count:
        raise UserError(
            f"video '{path}' ends {(count - done) / fps:.1f} s too early for {count / fps:g} s from {start_s:g} s"
        )


def cut(
    source: Path, folder: Path, entry: ClipEntry, spans: dict[str, tuple[float, float]], progress: Progress
) -> None:
    """Cut the parts that do not exist yet, and write the manifest.

    Args:
        source: the whole video.
        folder: where `<part>.mp4` and the manifest are written.
        entry: the clip's entry, with rate and origin.
        spans: (start, length) of each part, seconds.
        progress: display of the progress.

    Raises:
        UserError: the video cannot be read or is too short.
    """
    size, source_sha256 = _size_of(source), file_sha256(source)
    known = _known_parts(folder, source_sha256)
    parts: dict[str, CutPart] = {}
    for name, (start_s, seconds) in spans.items():
        path, frames = folder / f"{name}.mp4", round(seconds * entry.fps)
        wanted = CutPart(start_s, seconds, entry.fps, *size, sha256="")
        old = known.get(name)
        if (
            old
            and msgspec.structs.replace(old, sha256="") == wanted
            and path.is_file()
            and file_sha256(path) == old.sha256
        ):
            parts[name] = old
            continue
        images = frames_at(source, start_s, entry.fps, frames, size)
        write_clip(path, progress.track(images, total=frames, description=f"cutting {name}"), entry.fps, size)
        parts[name] = msgspec.structs.replace(wanted, sha256=file_sha256(path))
        _write_manifest(folder, CutManifest(entry.source, source_sha256, known | parts))
    _write_manifest(folder, CutManifest(entry.source, source_sha256, parts))


def _size_of(source: Path) -> tuple[int, int]:
    """Width and height of the parts: those of the video as displayed, reduced to at most `SIZE`."""
    own = probe(source).size
    return fit_size(*own, min(own[0], SIZE[0]), min(own[1], SIZE[1]))


def _known_parts(folder: Path, source_sha256: str) -> dict[str, CutPart]:
    """Parts that an earlier call cut from the same file."""
    path = folder / MANIFEST_FILE
    if not path.is_file():
        return {}
    try:
        found = decode_json(path.read_bytes(), CutManifest)
    except msgspec.MsgspecError:
        return {}
    return found.parts if found.source_sha256 == source_sha256 else {}


def _write_manifest(folder: Path, found: CutManifest) -> None:
    with atomic_path(folder / MANIFEST_FILE) as temporary:
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")


def build_parser() -> CommandLine:
    """Build the parser of the command line."""
    papers = [name for name, entry in manifest().items() if entry.kind == "paper"]
    parser = CommandLine(
        "python -m vitmalis.video.fetch",
        "Download one of the paper's videos and cut its profile (60 s) and evaluation (300 s) clips.",
        {"walkS": "then: evaluate.py video=walkS", "walkS --source download.mp4": "cut a file that you have"},
        "The videos are their authors': for your own use, not to be passed on.",
    )
    parser.add_argument("name", choices=papers, metavar="NAME", help=f"one of {', '.join(papers)}")
    parser.add_argument("--source", type=Path, help="video file to cut (default: it is downloaded)")
    parser.add_argument("--output", type=Path, default=data_dir() / "videos", help="folder in which NAME/ is made")
    parser.add_argument(
        "--profile-start-s", type=float, default=60.0, help="second of the video at which the profile clip begins"
    )
    parser.add_argument("--profile-seconds", type=float, default=60.0, help="seconds of the profile clip")
    parser.add_argument(
        "--eval-start-s", type=float, default=180.0, help="second of the video at which the evaluation clip begins"
    )
    parser.add_argument("--eval-seconds", type=float, default=300.0, help="seconds of the evaluation clip")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Download and cut a video; return the exit status, 2 for a user's mistake or without a network."""
    args = build_parser().parse_args(argv)
    entry, folder = clip_entry(args.name), args.output / args.name
    spans = {
        "profile": (args.profile_start_s, args.profile_seconds),
        "eval": (args.eval_start_s, args.eval_seconds),
    }
    try:
        _check_spans(spans)
        source = args.source or download_video(args.name, entry, cache_dir() / "video_sources")
        with Progress(console=Console(stderr=True)) as progress:
            cut(source, folder, entry, spans, progress)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: clips cannot be written to '{folder}': {error}; give another --output", file=sys.stderr)
        return 2
    print(f"{folder}: python evaluate.py video={args.name}")
    return 0


def _check_spans(spans: dict[str, tuple[float, float]]) -> None:
    for name, (start_s, seconds) in spans.items():
        if start_s < 0 or seconds <= 0:
            raise UserError(
                f"the {name} clip cannot have {seconds:g} s from {start_s:g} s: give a start from 0, a length above"
            )
    for (one, (a, length)), (other, (b, _)) in itertools.permutations(spans.items(), 2):
        if a <= b < a + length:
            raise UserError(
                f"{one} and {other} clips overlap: no frame may serve for both training and evaluation; move a start"
            )


if __name__ == "__main__":
    sys.exit(main())
