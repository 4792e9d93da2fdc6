"""The clips this project knows by name: provenance, licence, checksum and split."""

from __future__ import annotations

import functools
import hashlib
from importlib import resources
from pathlib import Path
from typing import Literal

import msgspec

from vitmalis.errors import UserError


class ClipEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One clip of `manifest.toml`.

    Attributes:
        kind: "package" (embedded default), "folder" (a file the user has) or "paper" (the user's, else a stand-in).
        title, source, licence: what it shows, where it is from and under which terms.
        fps: rate it is played at, frames per second.
        file, sha256: its file and that file's checksum; empty where the user brings the file.
        frames: how many there are to play (0: as many as the user's file has, or as asked of a stand-in).
        profile_frames: frames of the profile part; the eval part is the rest (0: the parts are files of their own).
    """

    kind: Literal["package", "folder", "paper"]
    title: str
    source: str
    licence: str
    fps: float
    file: str = ""
    sha256: str = ""
    frames: int = 0
    profile_frames: int = 0


@functools.cache
def manifest() -> dict[str, ClipEntry]:
    """Every known clip by name."""
    text = resources.files("vitmalis.video").joinpath("manifest.toml").read_bytes()
    return msgspec.toml.decode(text, type=dict[str, ClipEntry])


def clip_entry(name: str) -> ClipEntry:
    """The entry of a clip; raises `UserError` for an unknown name."""
    if name not in manifest():
        raise UserError(
            f"video '{name}' is unknown: choose one of {', '.join(manifest())}, or video=file video.path=..."
        )
    return manifest()[name]


def check_sha256(path: Path, expected: str, what: str) -> None:
    """Raise `UserError` unless the file is the one expected."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise UserError(
            f"{what}: '{path}' has sha256 {found[:12]}..., expected {expected[:12]}...: it is damaged or another file; "
            "remove it to fetch it again"
        )
