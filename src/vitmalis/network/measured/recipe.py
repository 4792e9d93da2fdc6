"""The recipe of the measured traces: the samples and files that each is made of."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from vitmalis.network.measured.sources import source_files
from vitmalis.repository_files import RepositoryFile


@dataclass(frozen=True, slots=True)
class Piece:
    """One line of the recipe.

    Attributes:
        trace: name, such as `4g_07`.
        part: `uplink` or `rtt`.
        group: number of the pool that pieces of round-trip times form; a pool is repeated if it is too short.
        file: file with the samples.
        member: number of the run, or member of a zip file and operator; empty if the piece is the whole file.
        method: how the file is read (`vitmalis.network.measured.assemble`).
        start, end: range of the piece in the method's unit: samples, or seconds of the clock, the test or the pool.
    """

    trace: str
    part: str
    group: int
    file: RepositoryFile
    member: str
    method: str
    start: float
    end: float


@lru_cache(maxsize=1)
def recipe() -> list[Piece]:
    """Read all pieces, in the order in which they are joined."""
    known = source_files()
    with (Path(str(files("vitmalis.network.measured"))) / "recipe.csv").open(newline="") as lines:
        return [
            Piece(
                row["trace"],
                row["part"],
                int(row["group"]),
                known[row["source"], row["file"]],
                row["member"],
                row["method"],
                float(row["start"]),
                float(row["end"]),
            )
            for row in csv.DictReader(lines)
        ]
