"""Fit the generator of network traces to measured traces: `python -m training.traces` (conf/fit_traces.yaml).

Writes the parameters, the traces that they give, and a table and figure that compare them with the measured ones. Only
fitted numbers, summary statistics and generated traces are written, never a measured sample.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
from omegaconf import DictConfig

from vitmalis.errors import UserError
from vitmalis.network.traces import Trace, load_trace, save_trace
from vitmalis.network.traces.generate import (
    LENGTH_S,
    SILENCE_MBPS,
    TECHNOLOGIES,
    TRACES_EACH,
    Group,
    TraceModel,
    fitted_model,
    generate,
)
from vitmalis.paths import atomic_path
from vitmalis.untrusted_files import damage_reported
from vitmalis_jobs.common.cli import hydra_job
from vitmalis_jobs.common.config import checked
from vitmalis_jobs.training.trace_model.comparison import TraceSets, draw_figure, write_table
from vitmalis_jobs.training.trace_model.config import TraceFitConfig
from vitmalis_jobs.training.trace_model.em import fit_switching

log = logging.getLogger(__name__)

FIT_FLOOR_MBPS = 0.6 * SILENCE_MBPS
"""Rate that stands for silence, as 0 has no logarithm; generated values below `SILENCE_MBPS` become 0 again."""
FIVE_NUMBERS = (0, 25, 50, 75, 100)
"""Percentiles of a five-number summary."""

MeasuredSet = dict[str, list[tuple[str, Trace]]]
"""Thirty (mobility, trace) of each technology."""


def load_measured(folder: Path) -> MeasuredSet:
    """Read the measured set: thirty traces of 300 rows of each technology, as `traces.csv` lists them.

    Raises:
        UserError: a file is missing or a trace cannot be used.
    """
    listing = folder / "traces.csv"
    if not listing.is_file():
        raise UserError(f"{listing} is not there; give source=<folder with traces.csv, 4g/ and 5g/>")
    with damage_reported(f"list of traces {listing}", "give its columns name, path and mobility"):
        rows = pd.read_csv(listing, dtype=str)[["name", "path", "mobility"]].dropna()
    measured: MeasuredSet = {}
    for technology in TECHNOLOGIES:
        own = rows[rows["path"].str.startswith(f"{technology}/")].sort_values("name")
        pairs = [(str(m), load_trace(folder / str(p))) for m, p in zip(own["mobility"], own["path"], strict=True)]
        lengths = sorted({len(trace) for _, trace in pairs})
        if len(pairs) != TRACES_EACH or lengths != [LENGTH_S]:
            raise UserError(
                f"{listing} lists {len(pairs)} {technology} traces of {lengths} rows; "
                f"expected {TRACES_EACH} of {LENGTH_S} rows"
            )
        measured[technology] = pairs
    return measured


def fit_model(measured: MeasuredSet, config: TraceFitConfig) -> TraceModel:
    """Fit models of rate and round-trip time to each group of traces."""
    technologies: dict[str, list[Group]] = {}
    for technology, pairs in measured.items():
        technologies[technology] = []
        for mobility, coverage, traces in trace_groups(pairs, config.split_from):
            technologies[technology].append(fit_group(mobility, coverage, traces, config))
            log.info("fitted %s %s %s: %d traces", technology, mobility, coverage, len(traces))
    origin = {
        "fitted_to": "60 measured uplink traces (sources in docs/traces.md); fitted numbers only, no measured sample",
        "command": "python -m training.traces",
        "date": datetime.now(UTC).date().isoformat(),
    }
    return TraceModel(origin, technologies)


def trace_groups(pairs: list[tuple[str, Trace]], split_from: int) -> Iterator[tuple[str, str, list[Trace]]]:
    """Group the (mobility, trace) of a technology: (mobility, coverage, traces by rising mean).

    A mobility with at least `split_from` traces is split at the median of their means into weak and strong coverage.
    """
    for mobility in sorted({mobility for mobility, _ in pairs}):
        traces = sorted((trace for own, trace in pairs if own == mobility), key=lambda trace: trace.mean_mbps())
        half = len(traces) // 2
        if len(traces) >= split_from:
            yield mobility, "weak", traces[:half]
            yield mobility, "strong", traces[half:]
        else:
            yield mobility, "any", traces


def fit_group(mobility: str, coverage: str, traces: list[Trace], config: TraceFitConfig) -> Group:
    """Fit the two models of one group of traces and summarise its trace means."""
    few = coverage == "any"
    rate = np.maximum(np.stack([trace.uplink_mbps for trace in traces]), FIT_FLOOR_MBPS)
    rtt = np.stack([trace.rtt_ms for trace in traces])
    fit = partial(
        fit_switching,
        max_slope=config.max_slope,
        restarts=config.restarts,
        iterations=config.iterations,
        seed=config.seed,
    )
    uplink_model, _ = fit(rate, regimes=config.few_regimes if few else config.uplink_regimes)
    rtt_model, _ = fit(rtt, regimes=config.few_regimes if few else config.rtt_regimes)
    return Group(
        mobility, coverage, len(traces),
        np.percentile([trace.mean_mbps() for trace in traces], FIVE_NUMBERS).round(3).tolist(),
        np.percentile(rtt.mean(axis=1), FIVE_NUMBERS).round(3).tolist(),
        uplink_model, rtt_model,
    )  # fmt: skip


def generated_set(model: TraceModel, seed: int) -> TraceSets:
    """Generate the sixty traces of one seed."""
    sets: TraceSets = {}
    for technology in TECHNOLOGIES:
        sets[technology] = []
        for index in range(TRACES_EACH):
            series = generate(technology, index, seed=seed, model=model)
            time_s = np.arange(LENGTH_S, dtype=np.float64)
            sets[technology].append(Trace(f"{technology}_{index:02d}", time_s, series.uplink_mbps, series.rtt_ms))
    return sets


def save_set(folder: Path, sets: TraceSets) -> None:
    """Write traces as a folder that `trace.source` takes."""
    for technology, traces in sets.items():
        (folder / technology).mkdir(parents=True, exist_ok=True)
        for trace in traces:
            save_trace(trace, folder / technology / f"{trace.name}.csv")


def fit_traces(config: TraceFitConfig) -> None:
    """Fit as configured, and write the parameters, the traces, and the table and figure that compare both sets."""
    measured = load_measured(Path(config.source))
    model = fit_model(measured, config) if config.fit else fitted_model()
    sets = {technology: [trace for _, trace in pairs] for technology, pairs in measured.items()}
    generated = {seed: generated_set(model, seed) for seed in range(config.compare_seeds + 1)}
    if config.fit:
        with atomic_path(Path(config.model_path)) as temporary:
            temporary.write_bytes(msgspec.json.format(msgspec.json.encode(model), indent=1) + b"\n")
        save_set(Path(config.folder), generated[0])
    write_table(Path(config.page), sets, generated)
    draw_figure(Path(config.figure), sets, generated[0])
    log.info("wrote %s, %s and %s", config.model_path if config.fit else "no parameters", config.page, config.figure)


@hydra_job(
    "fit_traces",
    {
        "": "fit to data/traces (python -m vitmalis.network.fetch brings them)",
        "fit=false compare_seeds=5": "only compare the package's generator with them",
    },
)
def main(config: DictConfig) -> None:
    """Fit the trace generator as the command line says."""
    fit_traces(checked(config, TraceFitConfig))


if __name__ == "__main__":
    sys.exit(main())
