"""Folders of derived files and of the user's data, atomic writing, and checksums."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath

_MAX_PARENT_BYTES = 70


def cache_dir() -> Path:
    """Folder of files that can be made again: `$VITMALIS_CACHE`, else `runs/cache` in the working directory."""
    return Path(os.environ.get("VITMALIS_CACHE", Path("runs") / "cache"))


def data_dir() -> Path:
    """Folder of the user's clips, traces and golden outputs: `$VITMALIS_DATA`, else `data` in the working directory."""
    return Path(os.environ.get("VITMALIS_DATA", "data"))


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path` that replaces it on success and is removed on failure.

    It has the same suffix, by which writers choose a format.
    """
    make_folder(path.parent)
    temporary = path.with_name(f".{path.stem}-{uuid.uuid4().hex}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Create a folder and those above it, writable by the group where the folder that they are made in is."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    share_with_group(path)


@contextmanager
def socket_folder() -> Iterator[Path]:
    """Yield a temporary folder of mode 700, for Unix sockets with names of up to ten characters.

    A path of such a socket has at most 104 bytes, and the usual folder for temporary files may have a longer one.
    """
    usual = tempfile.gettempdir()
    parent = usual if len(os.fsencode(usual)) <= _MAX_PARENT_BYTES else "/tmp"
    with tempfile.TemporaryDirectory(prefix="vitmalis-", dir=parent) as folder:
        yield Path(folder)


def remove_empty(folder: Path, top: Path) -> None:
    """Remove a folder, and those above it below `top`, as far as they are empty."""
    for path in (folder, *folder.parents):
        if path == top or not path.is_relative_to(top):
            return
        try:
            path.rmdir()
        except OSError:  # it holds something
            return


def remove_if_only(folder: Path, files: Collection[str], top: Path) -> None:
    """Remove a folder that holds nothing but these files, and those above it below `top` that become empty.

    Args:
        folder: not a link, else it stays.
        files: paths relative to the folder.
        top: absolute path.
    """
    known = {PurePosixPath(file) for file in files}
    known |= {parent for file in known for parent in file.parents}
    if not folder.is_symlink() and all(PurePosixPath(path.relative_to(folder)) in known for path in folder.rglob("*")):
        shutil.rmtree(folder, ignore_errors=True)
        remove_empty(folder.absolute().parent, top)


def share_with_group(path: Path) -> None:
    """Let the group write a file or folder if it may write the one around it; files of other users stay as they are."""
    about, shared = path.stat(), group_write(path.parent)
    if about.st_uid == os.geteuid() and shared & ~about.st_mode:
        path.chmod(stat.S_IMODE(about.st_mode) | shared)


@contextmanager
def group_umask(folder: Path) -> Iterator[None]:
    """Let the group write what is made in this block, also by libraries and child processes, if it may write `folder`.

    A folder that does not exist yet counts as the first one above it.
    """
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())
    before = os.umask(0o777)
    os.umask(before & ~group_write(existing))
    try:
        yield
    finally:
        os.umask(before)


def group_write(folder: Path) -> int:
    """The mode bit by which the group may write a folder; 0 if it may not."""
    return folder.stat().st_mode & stat.S_IWGRP


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, computed once per process unless size or modification time change.

    Raises:
        OSError: the file cannot be read.
    """
    about = path.stat()
    return _sha256(path, about.st_size, about.st_mtime_ns)


@lru_cache(maxsize=256)
def _sha256(path: Path, size_bytes: int, modified_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
