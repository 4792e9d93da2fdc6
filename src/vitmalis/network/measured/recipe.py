"""Which samples of which files make which trace."""

from __future__ import annotations

import csv
import io
import itertools
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import numpy as np

from vitmalis.network.measured.samples import (
    Series,
    driving_mbps,
    means,
    nuttcp_mbps,
    ping_ms,
    read_runs,
    two_legs_mbps,
)
from vitmalis.network.measured.sources import SourceFile, source_files
from vitmalis.paths import atomic_path


@dataclass(frozen=True, slots=True)
class Piece:
    """One line of the recipe.

    Attributes:
        trace: name, such as `4g_07`.
        part: `uplink` or `rtt`.
        group: pieces of one group are one pool, of which a stretch is taken, from its beginning again at its end.
        file: where the samples are.
        member: number of the run, or file in a zip and operator; empty where the file is all.
        method: how to read it (`_uplink`, `_pool`).
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


def make_traces(folder: Path, target: Path) -> Iterator[str]:
    """Write `4g/4g_00.csv` and so on to `target` from the files in `folder`; yields the name of each when it is there.

    A trace that is there is made again: it takes a moment, and is replaced as a whole.
    """
    for name, own in itertools.groupby(recipe(), key=lambda piece: piece.trace):
        pieces = list(own)
        uplink = np.concatenate([_uplink(piece, folder) for piece in pieces if piece.part == "uplink"])
        groups = itertools.groupby((piece for piece in pieces if piece.part == "rtt"), key=lambda piece: piece.group)
        rtt = np.concatenate([_stretch(list(group), folder) for _, group in groups])
        with atomic_path(target / name[:2] / f"{name}.csv") as temporary:
            rows = enumerate(zip(uplink, rtt, strict=True))
            lines = [f"{second},{mbps:.3f},{ms:.2f}" for second, (mbps, ms) in rows]
            temporary.write_text("\n".join(["time_s,uplink_mbps,rtt_ms", *lines]) + "\n")
        yield name


def _uplink(piece: Piece, folder: Path) -> Series:
    """Mbps, one value a second."""
    path = piece.file.below(folder)
    match piece.method:
        case "list":
            return means(_runs(path)[int(piece.member)][0][int(piece.start) : int(piece.end)], 10)
        case "legs":
            return two_legs_mbps(_runs(path)[int(piece.member)], piece.start, piece.end)
        case "nuttcp":
            return nuttcp_mbps(path.read_text(errors="replace"))[int(piece.start) : int(piece.end)]
        case "driving":
            member, operator = piece.member.rsplit(":", 1)
            with zipfile.ZipFile(path) as archive, archive.open(member) as file:
                return driving_mbps(io.TextIOWrapper(file), operator, piece.start, piece.end)
    raise ValueError(f"recipe: uplinks cannot be read with '{piece.method}'")


def _stretch(group: Sequence[Piece], folder: Path) -> Series:
    """Milliseconds, one value a second, out of the pool that the pieces of a group are together."""
    pool = np.concatenate([_pool(piece, folder) for piece in group])
    return pool[np.arange(int(group[0].start), int(group[0].end)) % len(pool)]


def _pool(piece: Piece, folder: Path) -> Series:
    path = piece.file.below(folder)
    if piece.method == "ping":
        return ping_ms(path.read_text(errors="replace"))
    runs = _runs(path)
    chosen = list(runs.values()) if piece.member == "all" else [runs[int(piece.member)]]
    return np.concatenate([means(run[0], 10) for run in chosen])


@lru_cache(maxsize=32)
def _runs(path: Path) -> dict[int, list[Series]]:
    return read_runs(path.read_text())
