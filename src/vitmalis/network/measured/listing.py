"""`traces.csv`, the listing of the measured traces: origin of each, down to runs and sample ranges."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from vitmalis.network.measured.recipe import Piece
from vitmalis.network.measured.samples import Series
from vitmalis.network.measured.sources import REPOSITORIES
from vitmalis.paths import atomic_path

LISTING = "traces.csv"
_RANGES = {
    "list": "{run} [samples {start:.0f}-{end:.0f} of 0.1 s]",
    "legs": "{run} [clock {start:.1f}-{end:.1f} s]",
    "nuttcp": "{run} [{start:.0f}-{end:.0f} s of the test]",
    "driving": "{run} [{start:.1f}..{end:.1f} epoch s]",
}


def listing_row(name: str, pieces: Sequence[Piece], uplink_mbps: Series, rtt_ms: Series) -> dict[str, str]:
    """Make the row of one trace.

    Args:
        name: name of the trace, such as `4g_07`.
        pieces: all pieces that it is made of, in order.
        uplink_mbps, rtt_ms: (N,), one value per second.

    Returns:
        Text by column. `segment_starts_s` are the seconds at which another piece of uplink begins; the round-trip times
        are taken from their pools from `rtt_from_s` on, and from the beginning again after the end.
    """
    uplink = [piece for piece in pieces if piece.part == "uplink"]
    rtt = [piece for piece in pieces if piece.part == "rtt"]
    lengths = [round((piece.end - piece.start) * (0.1 if piece.method == "list" else 1.0)) for piece in uplink]
    pool_starts = dict.fromkeys((piece.group, piece.start) for piece in rtt)
    return {
        "name": name,
        "path": f"{name[:2]}/{name}.csv",
        "technology": name[:2].upper(),
        "mobility": _mobility(uplink[0]),
        "operator": "+".join(dict.fromkeys(map(_operator, uplink))),
        "source_repo": "; ".join(dict.fromkeys(piece.file.repository for piece in uplink)),
        "source_files": "; ".join(dict.fromkeys(piece.file.path for piece in uplink)),
        "runs_and_ranges": "; ".join(map(_range, uplink)),
        "n_segments": str(len(uplink)),
        "segment_starts_s": " ".join(str(sum(lengths[:index])) for index in range(len(lengths))),
        "mean_mbps": f"{uplink_mbps.mean():.2f}",
        "min_mbps": f"{uplink_mbps.min():.2f}",
        "max_mbps": f"{uplink_mbps.max():.2f}",
        "mean_rtt_ms": f"{rtt_ms.mean():.2f}",
        "rtt_files": "; ".join(dict.fromkeys(map(_pings, rtt))),
        "rtt_from_s": " ".join(f"{start:.0f}" for _, start in pool_starts),
    }


def write_listing(rows: Sequence[dict[str, str]], path: Path) -> None:
    """Write the rows of all traces as CSV; the file appears whole."""
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _mobility(piece: Piece) -> str:
    """How the phone moved: `driving`, `walking` or `static`."""
    if piece.file.repository == REPOSITORIES["pam"][0]:
        return "driving"
    known = ("driving", "walking", "static")
    return next((part for part in PurePosixPath(piece.file.path).parts if part in known), "not stated")


def _operator(piece: Piece) -> str:
    match piece.method:
        case "driving":
            return piece.member.rpartition(":")[2]
        case "nuttcp":
            return PurePosixPath(piece.file.path).parent.name
    return "not stated"


def _pings(piece: Piece) -> str:
    runs = {"": "", "all": " all runs"}.get(piece.member, f" Run {piece.member}")
    return f"{piece.file.repository}: {piece.file.path}{runs}"


def _range(piece: Piece) -> str:
    stem = PurePosixPath(piece.file.path).stem
    match piece.method:
        case "driving":
            run = f"{_operator(piece)} {PurePosixPath(piece.member.rpartition(':')[0]).stem}"
        case "nuttcp":
            run = f"{_operator(piece)} {stem}"
        case _:
            run = f"{stem} Run {piece.member}"
    return _RANGES[piece.method].format(run=run, start=piece.start, end=piece.end)
