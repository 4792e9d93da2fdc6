"""Clips of a job: those that are available on this machine, and frames chosen from them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TypeVar

import msgspec

from vitmalis.errors import UserError
from vitmalis.types import RgbImage
from vitmalis.video.spec import VideoSpec, open_video

_Clip = TypeVar("_Clip")


def available_clips(names: Iterable[str], resolve: Callable[[str], _Clip]) -> tuple[dict[str, _Clip], dict[str, str]]:
    """Resolve clips by name, leaving out those that are not available.

    Args:
        names: of the clips.
        resolve: finds one clip; raises `UserError` where it is not available.

    Returns:
        What was found, and why the others are left out, both by name.

    Raises:
        UserError: none is available.
    """
    found: dict[str, _Clip] = {}
    left_out: dict[str, str] = {}
    for name in names:
        try:
            found[name] = resolve(name)
        except UserError as error:
            left_out[name] = str(error)
    if not found:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise UserError(f"none of the clips is available here: {reasons}")
    return found, left_out


def spread_frames(spec: VideoSpec, count: int) -> list[int]:
    """Choose frames at even distances, each in the middle of its part of the clip."""
    return sorted({int((step + 0.5) * spec.frames / count) for step in range(count)})


def read_frames(spec: VideoSpec, frames: Collection[int]) -> Iterator[tuple[int, RgbImage]]:
    """Decode the chosen frames of a clip, no further than the last."""
    wanted = set(frames)
    part = msgspec.structs.replace(spec, frames=max(wanted) + 1)
    return ((index, image) for index, image in enumerate(open_video(part)) if index in wanted)
