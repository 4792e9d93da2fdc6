"""Locks between processes. A module of its own, because the client runs on devices without `filelock`."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock

from vitmalis.paths import group_write, make_folder


def file_lock(path: Path, timeout: float = -1) -> FileLock:
    """A lock between processes, in a file that everyone who may write its folder can use.

    Args:
        path: lock file; its folder is created.
        timeout: longest wait in seconds; negative waits without end.
    """
    make_folder(path.parent)
    # A lock file is opened for writing by all who use it: what a umask of 022 takes away, the folder's mode gives back.
    shared = group_write(path.parent)
    return FileLock(path, timeout=timeout, mode=0o644 | shared if shared else -1)
