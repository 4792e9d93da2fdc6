"""Names that become part of a path."""

from __future__ import annotations

import unicodedata

from vitmalis.errors import UserError

MAX_BYTES = 200
_SEPARATORS = "/\\"
_RESERVED = frozenset({"CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(1, 10))})
"""Names of devices on Windows, with any suffix."""


def check_path_part(option: str, name: str) -> None:
    """Check that a name can be one part of a path on every system and leads nowhere else.

    Args:
        option: where the name was given, for the error.
        name: of a file or folder, without those above it.

    Raises:
        UserError: it is empty, too long, `.` or `..`, a device's name, or has a separator or a character that is not
            printed.
    """
    reason = ""
    if not name.strip(" .") or name != name.strip():
        reason = "it is empty, a folder's own name for itself, or has spaces around it"
    elif any(character in _SEPARATORS for character in name):
        reason = "it has a separator of folders"
    elif any(unicodedata.category(character).startswith("C") for character in name):
        reason = "it has a character that is not printed"
    elif name.split(".")[0].upper() in _RESERVED:
        reason = "it is the name of a device on Windows"
    elif len(name.encode()) > MAX_BYTES:
        reason = f"it is longer than {MAX_BYTES} bytes"
    if reason:
        raise UserError(f"{option}={name!r:.80}: {reason}, and is used as the name of a file or folder: choose another")
