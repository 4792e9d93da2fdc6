"""Reading of files that may be damaged or foreign: whatever is wrong with them is one line for the user."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from vitmalis.errors import UserError

_Kind = TypeVar("_Kind")

UNFOLDED_BYTES = 64 * 2**20
"""Memory that the content of any file may take."""
UNFOLDED_RATIO = 256
"""Memory that a byte of a larger file may take."""


@contextmanager
def damage_reported(file: str, advice: str) -> Iterator[None]:
    """Let every error of the block, in which a file is read, reach the user as a mistake in that file.

    What a library raises for a damaged file depends on where the damage is, so that no list of exceptions is complete.

    Args:
        file: kind and path of the file.
        advice: what the user can do.

    Raises:
        UserError: the block raised an exception other than those of a file that may not be opened.
    """
    try:
        yield
    except (UserError, PermissionError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{file}: the file is damaged or of another kind ({reason}); {advice}") from error


def check_unfolded(path: Path, needed_bytes: int) -> None:
    """Raise `ValueError` if the content of a file would take more memory than is allowed for a file of its size."""
    size = path.stat().st_size
    if needed_bytes > max(UNFOLDED_BYTES, UNFOLDED_RATIO * size):
        raise ValueError(f"its {size} bytes would take {needed_bytes / 2**20:.0f} MiB of memory")


def decode_json(data: bytes, kind: type[_Kind], dec_hook: Callable[[type, Any], Any] | None = None) -> _Kind:
    """Decode JSON into a type; `dec_hook` as in `msgspec.json.decode`.

    Raises:
        msgspec.DecodeError: the data are no JSON, not of this type, or nested too deeply.
    """
    try:
        return msgspec.json.decode(data, type=kind, dec_hook=dec_hook)
    except (RecursionError, UnicodeDecodeError) as error:
        raise msgspec.DecodeError(f"JSON is malformed: {error}") from error
