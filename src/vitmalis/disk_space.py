"""Free space on the disks that results are written to."""

from __future__ import annotations

import shutil
from pathlib import Path

from vitmalis.errors import UserError

MIN_FREE_BYTES = 64 * 2**20
"""Free space that a run needs to start."""
LOW_FREE_BYTES = 16 * 2**20
"""Free space at which a run ends, while what it has can still be written."""


def check_space(what: str, folder: Path, needed_bytes: int) -> None:
    """Check the disk of a folder, which need not exist yet.

    Args:
        what: name of the folder in the error, such as `records folder`.
        folder: the folder.
        needed_bytes: free space that is needed.

    Raises:
        UserError: less is free.
        OSError: the disk cannot be asked.
    """
    there = next((each for each in (folder, *folder.absolute().parents) if each.exists()), Path())
    free_bytes = shutil.disk_usage(there).free
    if free_bytes < needed_bytes:
        raise UserError(
            f"{what} '{folder}': {free_bytes / 2**20:.0f} MiB are free on its disk, "
            f"{needed_bytes / 2**20:.0f} MiB are needed: free some, or choose another folder"
        )
