"""Agreement of the virtual clock with real time: `python -m validation.clock_agreement` plays the same runs on both.

The real-time runs are the check on the virtual ones, so the machine should have nothing else to do. No two real-time
runs are alike: `--repeats` takes the mean of several and shows how far apart they lie. The virtual clock plays each
pair twice: with the latency tables as they were measured, and with the tables scaled to the speed that the machine had
in the real-time runs (`latency_calibration.py`). The accepted band is for the second, because a shared machine does not
keep its speed for as long as this job takes; the first shows how far its tables can be trusted. As in a sweep, runs
whose equals have finished are not made again (`sweep.rerun=true` makes them all).
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

from vitmalis.errors import UserError
from vitmalis.paths import atomic_path
from vitmalis_jobs.common.cli import USER_ERRORS, error_line
from vitmalis_jobs.run.config import composed
from vitmalis_jobs.run.directory import SUMMARY_FILE, RunDirectory

COMPARED = {
    "rendering_f1": "rendering F1",
    "e2e_latency_s_median": "E2E median",
    "e2e_latency_s_p90": "E2E p90",
    "offload_interval_frames_median": "interval",
}
"""Metrics that are compared, and how they are called."""


@dataclass(frozen=True, slots=True)
class Band:
    """How far the clocks may lie apart in one pair.

    Attributes:
        rendering_f1: of rendering F1, absolutely.
        e2e: of the median E2E latency, relatively to real time.
    """

    rendering_f1: float
    e2e: float

    def holds(self, row: dict[str, dict[str, Any]]) -> bool:
        """Whether what `compared` gives lies within, with the durations of the real-time runs."""
        f1, e2e = row["rendering_f1"], row["e2e_latency_s_median"]
        near = abs(f1["virtual"] - f1["real"]) <= self.rendering_f1
        return near and abs(e2e["virtual"] / e2e["real"] - 1) <= self.e2e


def compared(
    real: Sequence[dict[str, float]], by_tables: dict[str, float], virtual: dict[str, float]
) -> dict[str, dict[str, Any]]:
    """Both clocks' values of each metric.

    Args:
        real: metrics of the real-time runs, which count with their mean.
        by_tables: of the virtual run with tables as they were measured.
        virtual: of that with tables at the speed of the real-time runs.

    Raises:
        UserError: a run lacks one, as none of its offloads was answered.
    """
    for metric in COMPARED:
        if any(metric not in metrics for metrics in (*real, by_tables, virtual)):
            raise UserError(
                f"a run has no {metric}: too few of its offloads were answered; play more (eval.seconds=...)"
            )
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
    """Makes runs one after the other, each in a numbered folder, or takes over equal ones that have finished.

    Args:
        folder: of the runs.
        common: overrides of all.
    """

    def __init__(self, folder: Path, common: Sequence[str]) -> None:
        self._folder = folder
        self._common = common
        self._numbers = itertools.count()

    def make(self, *overrides: str) -> tuple[dict[str, float], Path]:
        """Metrics of a run, and the folder of its records.

        Raises:
            UserError, HydraException: the overrides cannot be composed, or the run cannot be made.
        """
        from vitmalis_jobs.common.console import Terminal
        from vitmalis_jobs.run.evaluate import evaluate

        told, number = (*overrides, "output.film_seconds=0", *self._common), next(self._numbers)
        place = RunDirectory(self._folder / str(number), sweep=self._folder, number=number, overrides=told)
        with place.summary_on_failure():
            metrics = evaluate(composed(told), place, Terminal.on_stderr())  # standard output is for the result
        return metrics, Path(json.loads((place.directory / SUMMARY_FILE).read_text())["run_dir"])

    def tables(self, *overrides: str) -> tuple[Path, bool]:
        """Latency tables that a virtual run goes by, and whether its policy goes by them, too."""
        from vitmalis_jobs.common.console import Terminal
        from vitmalis_jobs.run.spec import make_plan

        plan = make_plan(composed([*overrides, *self._common]), Terminal.on_stderr())
        if plan.latency_tables is None:
            raise RuntimeError("a virtual run was planned without latency tables")
        return plan.latency_tables, "latency_tables" in plan.policy_options


def compare_pair(runs: Runs, told: Sequence[str], repeats: int, tables_file: Path) -> dict[str, Any]:
    """Play one pair under both clocks.

    Args:
        runs: makes them.
        told: overrides: video, trace and policy.
        repeats: real-time runs.
        tables_file: for the tables at the speed of the real-time runs.
    """
    from vitmalis.estimation.latency import load_latency_tables, save_latency_tables
    from vitmalis_jobs.run.processes import read_played
    from vitmalis_jobs.validation.latency_calibration import at_speed, observed_speed

    real = [
        # Equal runs are told apart by where their ends are noted.
        runs.make(*told, "clock=realtime", f"sweep.index={tables_file.parent}/finished/{repeat}")
        for repeat in range(repeats)
    ]
    by_tables, measured_dir = runs.make(*told, "clock=virtual")
    measured, estimates = runs.tables(*told, "clock=virtual")
    tables = load_latency_tables(measured)
    speed = observed_speed([read_played(where) for _, where in real], read_played(measured_dir), tables)
    save_latency_tables(at_speed(tables, speed), tables_file)
    own = [f"policy.latency_tables={measured}"] if estimates else []  # a policy expects what it expected in real time
    virtual, _ = runs.make(*told, "clock=virtual", f"latency.tables={tables_file}", *own)
    return compared([metrics for metrics, _ in real], by_tables, virtual) | {"speed": msgspec.structs.asdict(speed)}


def agree(
    folder: Path, pairs: Sequence[tuple[str, str, str]], common: Sequence[str], band: Band, repeats: int = 1
) -> dict[str, Any]:
    """Make all runs that are missing and compare.

    Args:
        folder: of the runs.
        pairs: video, trace and policy of each.
        common: overrides of all.
        band: what is accepted.
        repeats: real-time runs of each pair.
    """
    rows, runs = [], Runs(folder, common)
    for number, (video, trace, policy) in enumerate(pairs):
        told = [f"video={video}", f"trace={trace}", f"policy={policy}"]
        row = compare_pair(runs, told, repeats, folder / f"tables_{number}.json")
        rows.append({"video": video, "trace": trace, "policy": policy, **row, "within": band.holds(row)})
    return {"rows": rows, "within": all(row["within"] for row in rows), "band": [band.rendering_f1, band.e2e]}


def show(result: dict[str, Any]) -> None:
    """One table on standard error."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="real | virtual with the same durations | virtual by the tables")
    for title in ("video", "trace", "policy", *COMPARED.values(), "inference beside the tables", "within"):
        table.add_column(title)
    for row in result["rows"]:
        cells = [_shown(metric, **row[metric]) for metric in COMPARED]
        speed = f"x {row['speed']['inference']:.2f}"
        table.add_row(row["video"], row["trace"], row["policy"], *cells, speed, "yes" if row["within"] else "NO")
    Console(stderr=True, width=160).print(table)


def _shown(metric: str, real: float, real_runs: Sequence[float], by_tables: float, virtual: float) -> str:
    factor, unit = (1e3, " ms") if "_s_" in metric else (1.0, "")
    apart = f" ({factor * min(real_runs):.3g} to {factor * max(real_runs):.3g})" if len(real_runs) > 1 else ""

    def beside(value: float) -> str:
        by = f"{100 * (value / real - 1):+.0f} %" if unit else f"{value - real:+.3f}"
        return f"{factor * value:.3g}{unit} ({by})"

    return f"{factor * real:.3g}{apart} | {beside(virtual)} | {beside(by_tables)}"


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns 0 within the band, 1 outside, 2 for a user's mistake."""
    parser = argparse.ArgumentParser(prog="python -m validation.clock_agreement", description=__doc__.splitlines()[0])
    parser.add_argument("--video", default="market1906", help="one or more, by commas (default: %(default)s)")
    parser.add_argument("--trace", default="4g,5g", help="likewise (default: %(default)s)")
    parser.add_argument("--policy", default="trackb2b,vitmalis", help="likewise (default: %(default)s)")
    parser.add_argument("--folder", type=Path, default=Path("runs/agreement"), help="of the runs")
    parser.add_argument("--repeats", type=int, default=1, help="real-time runs of each pair (default: %(default)s)")
    parser.add_argument("--f1-band", type=float, default=0.03, help="accepted of rendering F1 (default: %(default)s)")
    parser.add_argument("--e2e-band", type=float, default=0.1, help="accepted of median E2E (default: %(default)s)")
    parser.add_argument("overrides", nargs="*", help="further options of evaluate.py, such as eval.seconds=20")
    options = parser.parse_args(arguments)
    pairs = list(itertools.product(*(getattr(options, name).split(",") for name in ("video", "trace", "policy"))))
    try:
        if options.repeats < 1:
            raise UserError(f"--repeats must be at least 1, not {options.repeats}")
        band = Band(options.f1_band, options.e2e_band)
        result = agree(options.folder, pairs, options.overrides, band, options.repeats)
    except USER_ERRORS as error:
        print(f"error: {error_line(error)}", file=sys.stderr)
        return 2
    show(result)
    with atomic_path(options.folder / "agreement.json") as temporary:
        temporary.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))
    return 0 if result["within"] else 1


if __name__ == "__main__":
    sys.exit(main())
