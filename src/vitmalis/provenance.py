"""What stored results were made by: sources by content, libraries by version."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import msgspec

from vitmalis.paths import file_sha256

LIBRARIES = ("av", "numpy", "opencv-python-headless", "torch", "torchvision")
"""Libraries whose results are stored: decoded pictures, compressed bytes, tracks, boxes."""


def library_versions() -> list[tuple[str, str]]:
    """Name and version of `LIBRARIES`."""
    return [(name, version(name)) for name in LIBRARIES]


def sources_digest(root: Path, paths: Iterable[Path]) -> str:
    """Digest of files by their path below `root` and their content, in whatever order they are given.

    Raises:
        OSError: a file cannot be read.
    """
    return digest(sorted((path.relative_to(root).as_posix(), file_sha256(path)) for path in paths))


def digest(facts: object) -> str:
    """SHA-256 of anything that JSON can hold, hexadecimal."""
    return hashlib.sha256(msgspec.json.encode(facts)).hexdigest()
