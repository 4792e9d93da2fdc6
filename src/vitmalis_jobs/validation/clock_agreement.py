"""Agreement of the virtual clock with real time: `python -m validation.clock_agreement` plays the same runs on both.

The real-time runs check the virtual ones, so the machine should have nothing else to do; pairs with runs that were
played on a busy machine are marked. No two real-time runs are alike: `--repeats` takes the mean of several and shows
their range. The virtual clock plays each pair twice: with the latency tables as they were measured, and with the tables
scaled to the speed that the machine had in the real-time runs (`latency_calibration.py`). The accepted band is for the
second, because a shared machine does not keep its speed for as long as this job takes; the first shows how far its
tables can be trusted. As in a sweep, runs whose equals have finished are not repeated (`sweep.rerun=true` repeats all).
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from vitmalis.command_line import CommandLine
from vitmalis.errors import UserError
from vitmalis.estimation.latency import load_latency_tables, save_latency_tables
from vitmalis_jobs.common.arguments import add_overrides, check_positive
from vitmalis_jobs.common.cli import job_parser, option_job
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.job_output import emit
from vitmalis_jobs.common.machine_load import BUSY_MARK, BUSY_NOTE, is_busy
from vitmalis_jobs.run import pipeline
from vitmalis_jobs.run.config import composed
from vitmalis_jobs.run.directory import SUMMARY_FILE, RunDirectory
from vitmalis_jobs.run.records import read_records
from vitmalis_jobs.run.resources import Resources
from vitmalis_jobs.validation.latency_calibration import at_speed, observed_speed
from vitmalis_jobs.validation.prepared_run import prepared_run

COMPARED = {
    "rendering_f1": "rendering F1",
    "e2e_latency_s_median": "E2E median",
    "e2e_latency_s_p90": "E2E p90",
    "offload_interval_frames_median": "interval",
}
"""Metrics that are compared, and their titles."""


@dataclass(frozen=True, slots=True)
class Band:
    """Accepted difference between the clocks in one pair.

    Attributes:
        rendering_f1: absolute difference of rendering F1.
        e2e: difference of the median E2E latency, relative to real time.
    """

    rendering_f1: float
    e2e: float

    def holds(self, row: dict[str, dict[str, Any]]) -> bool:
        """Whether a row of `compare_metrics` lies within the band, with the durations of the real-time runs."""
        f1, e2e = row["rendering_f1"], row["e2e_latency_s_median"]
        near = abs(f1["virtual"] - f1["real"]) <= self.rendering_f1
        return near and abs(e2e["virtual"] / e2e["real"] - 1) <= self.e2e


def compare_metrics(
    real: Sequence[dict[str, float]], by_tables: dict[str, float], virtual: dict[str, float]
) -> dict[str, dict[str, Any]]:
    """Values of each metric under both clocks.

    Args:
        real: metrics of the real-time runs; their means are compared.
        by_tables: metrics of the virtual run with tables as they were measured.
        virtual: metrics of the virtual run with tables at the speed of the real-time runs.

    Raises:
        UserError: a run lacks a metric, as none of its offloads was answered or its clip shows nothing to detect.
    """
    for metric in COMPARED:
        if any(metric not in metrics for metrics in (*real, by_tables, virtual)):
            f1 = metric == "rendering_f1"
            why = "nothing is to be found in the clip" if f1 else "too few of its offloads were answered"
            raise UserError(f"a run has no {metric}: {why}; play more (eval.seconds=...) or another clip")
    rows = {metric: [run[metric] for run in real] for metric in COMPARED}
    return {
        metric: {
            "real": statistics.fmean(values),
            "real_runs": values,
            "by_tables": by_tables[metric],
            "virtual": virtual[metric],
        }
        for metric, values in rows.items()
    }


class Runs:
    """Makes runs one after the other, each in a numbered folder, or reuses equal ones that have finished.

    Args:
        folder: of the runs.
        common: overrides of all runs.
        terminal: shows their progress.
    """

    def __init__(self, folder: Path, common: Sequence[str], terminal: Terminal) -> None:
        self.folder = folder
        self._common = common
        self._terminal = terminal
        self._numbers = itertools.count()
        self._resources = Resources()

    def make(self, *overrides: str) -> tuple[dict[str, float], Path]:
        """Make a run; returns its metrics and the folder of its records.

        Raises:
            UserError, HydraException: the overrides cannot be composed, or the run cannot be made.
        """
        records_only = ("output.page=false", "output.video_seconds=0")
        options, number = (*overrides, *records_only, *self._common), next(self._numbers)
        place = RunDirectory(self.folder / str(number), sweep=self.folder, number=number, overrides=options)
        with place.summary_on_failure():
            metrics = pipeline.run_evaluation(composed(options), place, self._resources, self._terminal)
        return metrics, Path(json.loads((place.path / SUMMARY_FILE).read_text())["run_dir"])

    def tables(self, *overrides: str) -> tuple[Path, bool]:
        """Latency tables of a virtual run, and whether its policy uses them, too."""
        prepared = prepared_run([*overrides, *self._common], self._terminal, self._resources)
        if prepared.latency_tables is None:
            raise RuntimeError("a virtual run was prepared without latency tables")
        return prepared.latency_tables, "latency_tables" in prepared.policy_options


def compare_pair(runs: Runs, options: Sequence[str], repeats: int, tables_file: Path) -> dict[str, Any]:
    """Play one pair under both clocks.

    Args:
        runs: makes the runs.
        options: video, trace and policy.
        repeats: number of real-time runs.
        tables_file: for the tables at the speed of the real-time runs.
    """
    real = [
        # Each repeat has its own run index, else the second would be taken for the first.
        runs.make(*options, "clock=realtime", f"sweep.index={tables_file.parent}/index/{repeat}")
        for repeat in range(repeats)
    ]
    by_tables, measured_dir = runs.make(*options, "clock=virtual")
    measured, estimates = runs.tables(*options, "clock=virtual")
    tables = load_latency_tables(measured)
    speed = observed_speed([read_records(where) for _, where in real], read_records(measured_dir), tables)
    save_latency_tables(at_speed(tables, speed), tables_file)
    own = [f"policy.latency_tables={measured}"] if estimates else []  # estimates stay those of real time
    virtual, _ = runs.make(*options, "clock=virtual", f"latency.tables={tables_file}", *own)
    metrics = [metrics for metrics, _ in real]
    return compare_metrics(metrics, by_tables, virtual) | {
        "speed": msgspec.structs.asdict(speed),
        "busy_runs": sum(map(is_busy, [*metrics, by_tables, virtual])),
    }


def compare_clocks(runs: Runs, pairs: Sequence[tuple[str, str, str]], band: Band, repeats: int = 1) -> dict[str, Any]:
    """Make all runs that are missing and compare.

    Args:
        runs: makes the runs.
        pairs: video, trace and policy of each pair.
        band: accepted difference.
        repeats: real-time runs of each pair.
    """
    rows = []
    for number, (video, trace, policy) in enumerate(pairs):
        options = [f"video={video}", f"trace={trace}", f"policy={policy}"]
        row = compare_pair(runs, options, repeats, runs.folder / f"tables_{number}.json")
        rows.append({"video": video, "trace": trace, "policy": policy, **row, "within": band.holds(row)})
    return {"rows": rows, "within": all(row["within"] for row in rows), "band": [band.rendering_f1, band.e2e]}


def show(result: dict[str, Any], terminal: Terminal) -> None:
    """Print the result as a table."""
    rows = []
    for row in result["rows"]:
        names = {name: row[name] for name in ("video", "trace", "policy")}
        cells = {title: _cell(metric, **row[metric]) for metric, title in COMPARED.items()}
        speed = {"inference / tables": f"x {row['speed']['inference']:.2f}"}
        mark = BUSY_MARK if row["busy_runs"] else ""
        rows.append(names | cells | speed | {"within": ("yes" if row["within"] else "NO") + mark})
    title = "real | virtual with the same durations | virtual by the tables"
    terminal.table(title, rows, list(rows[0]))
    if busy := sum(row["busy_runs"] for row in result["rows"]):
        terminal.warn(f"{busy} runs {BUSY_NOTE}")


def _cell(metric: str, real: float, real_runs: Sequence[float], by_tables: float, virtual: float) -> str:
    factor, unit = (1e3, " ms") if "_s_" in metric else (1.0, "")
    apart = f" ({factor * min(real_runs):.3g} to {factor * max(real_runs):.3g})" if len(real_runs) > 1 else ""

    def difference(value: float) -> str:
        by = f"{100 * (value / real - 1):+.0f} %" if unit else f"{value - real:+.3f}"
        return f"{factor * value:.3g}{unit} ({by})"

    return f"{factor * real:.3g}{apart} | {difference(virtual)} | {difference(by_tables)}"


def command_line() -> CommandLine:
    """The options of this job."""
    parser = job_parser(
        "validation.clock_agreement",
        "Play the same runs on the virtual clock and in real time, and compare their scores and latencies.",
        {
            "": "two policies on 4G and 5G",
            "--policy vitmalis --trace 4g --repeats 3 eval.seconds=20": "one pair, three times in real time",
        },
        "Exit status 1: a pair is outside the bands.",
    )
    parser.add_argument("--video", default="market1906", help="one or more clips, with commas between")
    parser.add_argument("--trace", default="4g,5g", help="one or more traces, with commas between")
    parser.add_argument("--policy", default="trackb2b,vitmalis", help="one or more policies, with commas between")
    parser.add_argument("--repeats", type=int, default=1, help="real-time runs of each pair, whose median counts")
    parser.add_argument("--f1-band", type=float, default=0.03, help="accepted difference of rendering F1")
    parser.add_argument("--e2e-band", type=float, default=0.1, help="accepted relative difference of median E2E")
    parser.add_argument("--folder", type=Path, default=Path("runs/clock_agreement"), help="folder of runs and result")
    add_overrides(parser)
    return parser


def check(options: argparse.Namespace) -> bool:
    """Compare the clocks, print and store the result; false if a pair is outside the band."""
    check_positive(options, "repeats")
    pairs = list(itertools.product(*(getattr(options, name).split(",") for name in ("video", "trace", "policy"))))
    band, terminal = Band(options.f1_band, options.e2e_band), Terminal.on_stderr()
    result = compare_clocks(Runs(options.folder, options.overrides, terminal), pairs, band, options.repeats)
    show(result, terminal)
    emit(result, options.folder / "clock_agreement.json")
    return bool(result["within"])


main = option_job(command_line, check)


if __name__ == "__main__":
    sys.exit(main())
