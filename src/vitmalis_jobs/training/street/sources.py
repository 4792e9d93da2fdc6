"""The table of public files that street frames are made from: origin, checksum and licence of each."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from vitmalis.paths import atomic_path
from vitmalis.repository_files import RepositoryFile


@dataclass(frozen=True, slots=True)
class StreetSource:
    """A published image or video and the frames that are taken of it.

    Attributes:
        prefix: what the names of its frames begin with; files of one prefix show one scene.
        numbers: frames to take of a video, counted from 0; of an image the number in its name, or none.
        file: where it is published.
        licence: as stated in its repository.
        shows: its content in a few words.
        licence_flag: `ok`, or `check` and why the licence is to be checked before use.
    """

    prefix: str
    numbers: tuple[int, ...]
    file: RepositoryFile
    licence: str
    shows: str
    licence_flag: str

    @property
    def is_clear(self) -> bool:
        """Whether the footage is free without question."""
        return self.licence_flag.startswith("ok")

    def frame_name(self, number: int | None) -> str:
        """Name of the JPEG of a frame, or of an image without a number."""
        return f"{self.prefix}.jpg" if number is None else f"{self.prefix}_{number:05d}.jpg"


def street_sources() -> list[StreetSource]:
    """Read the table of the package."""
    with (Path(str(files("vitmalis_jobs.training.street"))) / "sources.csv").open(newline="") as lines:
        return [
            StreetSource(
                row["prefix"],
                tuple(map(int, row["frames"].split())),
                RepositoryFile(row["repository"], row["commit"], row["path"], row["sha256"]),
                row["licence"],
                row["shows"],
                row["licence_flag"],
            )
            for row in csv.DictReader(lines)
        ]


def write_sources(sources: Sequence[StreetSource], path: Path) -> None:
    """Write the table of a folder of frames; the file appears whole."""
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("prefix", "repository", "commit", "path", "licence", "shows", "licence_flag"))
        for source in sources:
            origin = source.file
            about = (source.licence, source.shows, source.licence_flag)
            writer.writerow((source.prefix, origin.repository, origin.commit, origin.path, *about))
