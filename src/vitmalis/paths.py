"""Where derived files live, and how they appear whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_dir() -> Path:
    """Folder for files that can be made again: `$VITMALIS_CACHE`, else `runs/cache` in the working directory."""
    return Path(os.environ.get("VITMALIS_CACHE", Path("runs") / "cache"))


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling of `path` that takes its place on success and is removed on failure.

    The sibling keeps the suffix, so writers that choose a format by it still do.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}-{uuid.uuid4().hex}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
