"""Resolving a trace by its options: generated, measured, a user's file, or a constant link."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Final, Literal

import numpy as np

from vitmalis.errors import UserError
from vitmalis.network.traces.generate import TECHNOLOGIES, TRACES_EACH, generate
from vitmalis.network.traces.io import load_trace
from vitmalis.network.traces.trace import Trace, constant_trace

TYPICAL: Final = "typical"
"""The index that stands for the trace of median capacity."""
GENERATED: Final = "generated"
"""The source that is the trace generator rather than a folder."""
DRAWN: Final = "drawn"
"""The start that `drawn_start_s` finds for each pair of clip and trace."""
TraceIndex = int | Literal["typical"]


def resolve_trace(
    kind: str,
    *,
    technology: str = "4g",
    index: TraceIndex = TYPICAL,
    source: str = "generated",
    seed: int = 0,
    path: str | Path = "",
    mbps: float = 12.0,
    rtt_ms: float = 40.0,
    capacity_scale: float = 1.0,
    rtt_scale: float = 1.0,
    start_s: float = 0.0,
) -> Trace:
    """Resolve the trace that a configuration describes; the arguments are its keys.

    Its name says what it is: `4g_07` is generated, `measured_4g_07` comes from a folder, a file's is its own; another
    seed than 0 follows, as in `4g_07_seed1`. So no two traces of a study have one name.

    Args:
        kind: `cellular` (technology, index, source, seed), `constant` (mbps, rtt_ms) or `file` (path, index, rtt_ms).
        technology: `4g` or `5g`.
        index: number of the trace, 0..29, or of the file in a folder; or `typical`, see `typical_index`.
        source: `generated`, or a folder that holds `4g/4g_00.csv` .. `5g/5g_29.csv`.
        seed: seed of the generated set; `docs/traces.md` describes the set of seed 0. Other kinds have none, and take
            it for the draw of their start alone.
        path: CSV or Mahimahi file, or a folder of such files, which `index` counts by their names.
        mbps: rate of a constant link.
        rtt_ms: round-trip time of a constant link or of a Mahimahi file, which contains none.
        capacity_scale: factor on the rate.
        rtt_scale: factor on the round-trip times.
        start_s: time on the trace's clock at which the run begins.

    Raises:
        UserError: an unknown choice, an index out of range, a missing or broken file, or a value that no link can have.
    """
    if kind == "constant":
        trace = constant_trace(mbps, rtt_ms)
    elif kind == "file":
        trace = load_trace(_file(Path(path), index), rtt_ms=rtt_ms)
    elif kind == "cellular":
        trace = _cellular(technology, index, source, seed)
    else:
        raise UserError(f"trace.kind is '{kind}'; choose cellular, constant or file")
    if seed:
        trace = replace(trace, name=f"{trace.name}_seed{seed}")
    return trace.scaled(capacity_scale).with_rtt_scaled(rtt_scale).starting_at(start_s)


def drawn_start_s(trace: Trace, clip: str, seed: int = 0) -> float:
    """Draw the second of a trace at which a clip begins, so that not all clips meet the same part of it.

    It depends on the seed and the two names and on nothing else: all policies meet the same part, on every machine.
    Whole seconds, each of the period alike, keep the rows of a trace in steps of 1 s whole.

    Args:
        trace: from its own beginning.
        clip: name of what is played.
        seed: another seed, another start.
    """
    names = (zlib.crc32(name.encode()) for name in (clip, trace.name))
    return float(np.random.default_rng((seed, *names)).integers(max(1, int(trace.duration_s))))


def typical_index(technology: str, source: str = GENERATED, seed: int = 0) -> int:
    """Index of the trace of median capacity: the mean rates of half the traces are lower than or equal to its own.

    Of an even number the lower of the two middle ones, which are equally near to the median.

    Args:
        technology: `4g` or `5g`.
        source: `generated`, or a folder of traces, of which those that are there count.
        seed: seed of the generated set.

    Raises:
        UserError: an unknown choice, or no trace there.
    """
    _check_set(technology, source, seed)
    means = _generated_means(technology, seed) if source == GENERATED else _measured_means(technology, Path(source))
    return sorted(means, key=lambda index: means[index])[(len(means) - 1) // 2]


@cache
def _generated_means(technology: str, seed: int) -> Mapping[int, float]:
    return {i: float(generate(technology, i, seed=seed).uplink_mbps.mean()) for i in range(TRACES_EACH)}


def _measured_means(technology: str, folder: Path) -> Mapping[int, float]:
    paths = {index: _measured_path(technology, index, folder) for index in range(TRACES_EACH)}
    means = {index: load_trace(path).mean_mbps() for index, path in paths.items() if path.is_file()}
    if not means:
        raise UserError(f"trace.source '{folder}' holds no {technology} trace, such as {paths[0]}")
    return means


def _measured_path(technology: str, index: int, folder: Path) -> Path:
    return folder / technology / f"{technology}_{index:02d}.csv"


def _file(path: Path, index: TraceIndex) -> Path:
    """The trace file that is meant by a path: itself, or of a folder the file of this number, hidden ones left out."""
    if not path.is_dir():
        return path
    files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    if not files:
        raise UserError(f"trace.path '{path}' is a folder without files; give one with CSV or Mahimahi traces")
    if not isinstance(index, int) or not 0 <= index < len(files):
        raise UserError(
            f"trace.index is {index}; the folder '{path}' has {len(files)} traces, 0 to {len(files) - 1} by their names"
        )
    return files[index]


def _cellular(technology: str, index: TraceIndex, source: str, seed: int) -> Trace:
    _check_set(technology, source, seed)
    number = typical_index(technology, source, seed) if index == TYPICAL else index
    if not isinstance(number, int) or not 0 <= number < TRACES_EACH:
        raise UserError(
            f"trace.index is {index}; there are {TRACES_EACH} {technology} traces, 0 to {TRACES_EACH - 1}, or "
            f"'{TYPICAL}' for the one of median capacity"
        )
    if source != GENERATED:
        trace = load_trace(_measured_path(technology, number, Path(source)))
        return replace(trace, name=f"measured_{trace.name}")
    series = generate(technology, number, seed=seed)
    time_s = np.arange(len(series.uplink_mbps), dtype=np.float64)
    return Trace(f"{technology}_{number:02d}", time_s, series.uplink_mbps, series.rtt_ms)


def _check_set(technology: str, source: str, seed: int) -> None:
    """Refuse a set of thirty traces that does not exist."""
    if technology not in TECHNOLOGIES:
        raise UserError(f"trace.technology is '{technology}'; choose one of {', '.join(TECHNOLOGIES)}")
    if seed < 0:
        raise UserError(f"trace.seed is {seed}; give a whole number from 0 on")
    if source != GENERATED and not Path(source).is_dir():
        raise UserError(
            f"trace.source '{source}' is not a folder; give one that holds {technology}/{technology}_00.csv and so "
            f"on (python -m vitmalis.network.fetch makes one from public measurements), or '{GENERATED}'"
        )
