"""Which samples of which files make which trace."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from vitmalis.network.measured.sources import SourceFile, source_files


@dataclass(frozen=True, slots=True)
class Piece:
    """One line of the recipe.

    Attributes:
        trace: name, such as `4g_07`.
        part: `uplink` or `rtt`.
        group: pieces of one group are one pool, of which a stretch is taken, from its beginning again at its end.
        file: where the samples are.
        member: number of the run, or file in a zip and operator; empty where the file is all.
        method: how to read it (`vitmalis.network.measured.assemble`).
        start, end: of the piece in the method's own unit: samples, seconds of the clock or the test, or of the pool.
    """

    trace: str
    part: str
    group: int
    file: SourceFile
    member: str
    method: str
    start: float
    end: float


@lru_cache(maxsize=1)
def recipe() -> list[Piece]:
    """All pieces, in the order in which they are put together."""
    known = {(file.source, file.path): file for file in source_files()}
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
