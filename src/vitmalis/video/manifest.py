"""The manifest of known clips: provenance, licence, checksum and split."""

from __future__ import annotations

import functools
from importlib import resources
from pathlib import Path
from typing import Literal

import msgspec

from vitmalis.errors import UserError
from vitmalis.paths import file_sha256
from vitmalis.repository_files import RepositoryFile


class ClipEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Entry of one clip in `manifest.toml`.

    Attributes:
        kind: "package" (the embedded default), "folder" (a file of the user's), "repository" (the user's file or
            downloaded) or "paper" (the user's, or a stand-in).
        title, source, licence: description, origin and terms of use.
        fps: playback rate, frames per second.
        repository, commit, path: of a "repository" clip, where its file is published.
        file, sha256: name and checksum of its file; empty if the user supplies the file. Of a "paper" clip, sha256 is
            that of the downloaded video, or empty if it is not known.
        first_frame: of a "package" clip, where it begins in the video, counted without repeated frames.
        frames: number of frames to play, no more than decode (0: all of the user's file, or as many of a stand-in as
            requested).
        profile_frames: frames of the profile part; the eval part is the rest (0: there is no profile part, or of a
            "paper" clip, the parts are files of their own).
    """

    kind: Literal["package", "folder", "repository", "paper"]
    title: str
    source: str
    licence: str
    fps: float
    file: str = ""
    sha256: str = ""
    first_frame: int = 0
    frames: int = 0
    profile_frames: int = 0
    repository: str = ""
    commit: str = ""
    path: str = ""

    @property
    def published(self) -> RepositoryFile:
        """The published file of a "repository" clip."""
        return RepositoryFile(self.repository, self.commit, self.path, self.sha256)


@functools.cache
def manifest() -> dict[str, ClipEntry]:
    """Every known clip by name."""
    text = resources.files("vitmalis.video").joinpath("manifest.toml").read_bytes()
    return msgspec.toml.decode(text, type=dict[str, ClipEntry])


def clip_entry(name: str) -> ClipEntry:
    """Entry of a clip; raise `UserError` for an unknown name."""
    if name not in manifest():
        raise UserError(
            f"video '{name}' is unknown: choose one of {', '.join(manifest())}, or video=file video.path=..."
        )
    return manifest()[name]


def check_sha256(path: Path, expected: str, what: str) -> None:
    """Raise `UserError` unless a file, called `what` in the message, has the expected checksum."""
    found = file_sha256(path)
    if found != expected:
        raise UserError(
            f"{what}: '{path}' has sha256 {found[:12]}..., expected {expected[:12]}...: it is damaged or another file; "
            "remove it to fetch it again"
        )
