"""The real clips that jobs measure on: their options on a command line, and those that are available here."""

from __future__ import annotations

import argparse
from pathlib import Path

from vitmalis.paths import cache_dir, data_dir
from vitmalis.video.clips import resolve_clip
from vitmalis.video.manifest import clip_entry, manifest
from vitmalis.video.spec import VideoSpec
from vitmalis_jobs.common.clips import available_clips
from vitmalis_jobs.common.console import Terminal

ALL = "all"
"""The name of all clips together in results."""
CLIPS = ("market1906", *(name for name, entry in manifest().items() if entry.kind == "folder"))


def add_clip_options(parser: argparse.ArgumentParser, seconds: float) -> None:
    """Add `--clips`, `--folder` and `--seconds`, whose default is `seconds` of each clip."""
    parser.add_argument(
        "--clips", nargs="+", metavar="NAME", help=f"clips (default: those available of {', '.join(CLIPS)})"
    )
    parser.add_argument("--folder", type=Path, default=data_dir() / "clips", help="folder of the clips that are files")
    parser.add_argument("--seconds", type=float, default=seconds, help="seconds of each clip at most")


def find_clips(
    options: argparse.Namespace, terminal: Terminal, *, max_width: int = 960, max_height: int = 540
) -> tuple[list[VideoSpec], dict[str, str]]:
    """Resolve the clips; those that were not asked for by name are left out with a warning, where they cannot be had.

    Args:
        options: of `add_clip_options`, and `part` of the clips.
        terminal: where warnings go.
        max_width, max_height: of the frames in pixels.

    Returns:
        The clips, and why the others are left out, by name.

    Raises:
        UserError: none is available, or one that was asked for by name is not.
    """

    def resolve(name: str) -> VideoSpec:
        folder = str(options.folder) if clip_entry(name).kind == "folder" else None
        return resolve_clip(
            name,
            part=options.part,
            seconds=options.seconds,
            cache_dir=cache_dir(),
            folder=folder,
            max_width=max_width,
            max_height=max_height,
        )

    if options.clips:
        return [resolve(name) for name in options.clips], {}
    clips, left_out = available_clips(CLIPS, resolve)
    for name, reason in left_out.items():
        terminal.warn(f"{name} is left out: {reason}")
    return list(clips.values()), left_out
