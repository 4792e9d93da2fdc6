"""Do both clocks tell the same? `python -m evaluation.agreement`: the same runs in real and in virtual time, compared.

The real-time run is the check on the virtual one: run it on a machine with nothing else to do. No two real-time runs
are alike, so that one says little of rendering F1: `--repeats` takes the mean of several and shows how far they lie
apart. As in a sweep, runs whose equals have finished are not made again (`sweep.rerun=true` makes them all).
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

from evaluation.cli import MISTAKES, composed, one_line
from evaluation.sweep import RunPlace
from vitmalis.errors import UserError
from vitmalis.paths import atomic_path

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

    def holds(self, row: dict[str, Any]) -> bool:
        """Whether a row of `compared` lies within."""
        f1, e2e = row["rendering_f1"], row["e2e_latency_s_median"]
        near = abs(f1["virtual"] - f1["real"]) <= self.rendering_f1
        return near and abs(e2e["virtual"] / e2e["real"] - 1) <= self.e2e


def compared(real: Sequence[dict[str, float]], virtual: dict[str, float]) -> dict[str, Any]:
    """Both clocks' values of each metric: the mean of the real-time runs beside the virtual one, and each of them."""
    rows = {metric: [run[metric] for run in real] for metric in COMPARED}
    return {
        metric: {"real": statistics.fmean(values), "virtual": virtual[metric], "real_runs": values}
        for metric, values in rows.items()
    }


def run_once(folder: Path, overrides: Sequence[str], number: int) -> dict[str, float]:
    """Metrics of a run, made now or taken over from an equal one that has finished, as in a sweep.

    Raises:
        UserError, HydraException: the overrides cannot be composed, or the run cannot be made.
    """
    from evaluation.job import evaluate
    from evaluation.terminal import Terminal

    config = composed(overrides)
    place = RunPlace(folder / str(number), sweep=folder, number=number, overrides=tuple(overrides))
    with place.summary_on_failure():  # standard output is for the result
        return evaluate(config, place, Terminal.on_stderr())


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
    rows, numbers = [], itertools.count()
    for video, trace, policy in pairs:
        told = [f"video={video}", f"trace={trace}", f"policy={policy}", "output.film_seconds=0", *common]
        real = [
            # Equal runs are told apart by where their ends are noted.
            run_once(folder, [*told, "clock=realtime", f"sweep.index={folder}/finished/{repeat}"], next(numbers))
            for repeat in range(repeats)
        ]
        virtual = run_once(folder, [*told, "clock=virtual"], next(numbers))
        row = compared(real, virtual)
        rows.append({"video": video, "trace": trace, "policy": policy, **row, "within": band.holds(row)})
    return {"rows": rows, "within": all(row["within"] for row in rows), "band": [band.rendering_f1, band.e2e]}


def show(result: dict[str, Any]) -> None:
    """One table on standard error."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="real | virtual")
    for title in ("video", "trace", "policy", *COMPARED.values(), "within"):
        table.add_column(title)
    for row in result["rows"]:
        cells = [_both(metric, **row[metric]) for metric in COMPARED]
        table.add_row(row["video"], row["trace"], row["policy"], *cells, "yes" if row["within"] else "NO")
    Console(stderr=True, width=160).print(table)


def _both(metric: str, real: float, virtual: float, real_runs: Sequence[float]) -> str:
    factor, unit = (1e3, " ms") if "_s_" in metric else (1.0, "")
    apart = f" ({factor * min(real_runs):.3g} to {factor * max(real_runs):.3g})" if len(real_runs) > 1 else ""
    by = f"{100 * (virtual / real - 1):+.0f} %" if unit else f"{virtual - real:+.3g}"
    return f"{factor * real:.3g}{apart} | {factor * virtual:.3g}{unit} ({by})"


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns 0 within the band, 1 outside, 2 for a user's mistake."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.agreement", description=__doc__.splitlines()[0])
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
    except MISTAKES as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    show(result)
    with atomic_path(options.folder / "agreement.json") as temporary:
        temporary.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))
    return 0 if result["within"] else 1


if __name__ == "__main__":
    sys.exit(main())
