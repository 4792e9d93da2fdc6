"""Assembly of the traces from the files that the recipe names."""

from __future__ import annotations

import io
import itertools
import zipfile
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from vitmalis.network.measured.listing import LISTING, listing_row, write_listing
from vitmalis.network.measured.recipe import Piece, recipe
from vitmalis.network.measured.samples import (
    BINS_PER_S,
    Series,
    driving_mbps,
    means,
    nuttcp_mbps,
    ping_ms,
    read_runs,
    two_legs_mbps,
)
from vitmalis.paths import atomic_path


def make_traces(folder: Path, target: Path) -> Iterator[str]:
    """Write `4g/4g_00.csv` and so on to `target` from the files in `folder`; yield the name of each written trace.

    Existing traces are written again, each as a whole. `traces.csv`, which describes them, is written last.
    """
    listed = []
    for name, own in itertools.groupby(recipe(), key=lambda piece: piece.trace):
        pieces = list(own)
        uplink = np.concatenate([_uplink(piece, folder) for piece in pieces if piece.part == "uplink"])
        groups = itertools.groupby((piece for piece in pieces if piece.part == "rtt"), key=lambda piece: piece.group)
        rtt = np.concatenate([_rtt(list(group), folder) for _, group in groups])
        with atomic_path(target / name[:2] / f"{name}.csv") as temporary:
            rows = enumerate(zip(uplink, rtt, strict=True))
            lines = [f"{second},{mbps:.3f},{ms:.2f}" for second, (mbps, ms) in rows]
            temporary.write_text("\n".join(["time_s,uplink_mbps,rtt_ms", *lines]) + "\n")
        listed.append(listing_row(name, pieces, uplink, rtt))
        yield name
    write_listing(listed, target / LISTING)


def _uplink(piece: Piece, folder: Path) -> Series:
    """Uplink of one piece in Mbps, one value per second."""
    path = piece.file.below(folder)
    match piece.method:
        case "list":
            return means(_runs(path)[int(piece.member)][0][int(piece.start) : int(piece.end)], BINS_PER_S)
        case "legs":
            return two_legs_mbps(_runs(path)[int(piece.member)], piece.start, piece.end)
        case "nuttcp":
            return nuttcp_mbps(path.read_text(errors="replace"))[int(piece.start) : int(piece.end)]
        case "driving":
            member, operator = piece.member.rsplit(":", 1)
            with zipfile.ZipFile(path) as archive, archive.open(member) as file:
                return driving_mbps(io.TextIOWrapper(file), operator, piece.start, piece.end)
    raise ValueError(f"recipe: uplinks cannot be read with '{piece.method}'")


def _rtt(group: Sequence[Piece], folder: Path) -> Series:
    """Round-trip times in ms, one value per second: a range of the pool that the pieces of a group form together."""
    pool = np.concatenate([_pool(piece, folder) for piece in group])
    return pool[np.arange(int(group[0].start), int(group[0].end)) % len(pool)]


def _pool(piece: Piece, folder: Path) -> Series:
    path = piece.file.below(folder)
    if piece.method == "ping":
        return ping_ms(path.read_text(errors="replace"))
    runs = _runs(path)
    chosen = list(runs.values()) if piece.member == "all" else [runs[int(piece.member)]]
    return np.concatenate([means(run[0], BINS_PER_S) for run in chosen])


@lru_cache(maxsize=32)
def _runs(path: Path) -> dict[int, list[Series]]:
    return read_runs(path.read_text())
