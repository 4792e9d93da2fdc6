"""Clips of a job that are available on this machine; a job that measures on many clips leaves the others out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from vitmalis.errors import UserError

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
