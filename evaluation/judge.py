"""Judge what a device played: `python -m evaluation.judge FOLDER`, for a folder of `python -m evaluation.prepare`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from evaluation.bundle import read_config, read_records
from evaluation.cli import MISTAKES, one_line
from evaluation.job import Outcome, find_references, make_run
from evaluation.plan import Plan, make_plan
from evaluation.store import Run
from evaluation.sweep import RunPlace
from evaluation.terminal import Terminal


def judge(folder: Path, terminal: Terminal) -> dict[str, float]:
    """Make the MLflow run of a device's records; returns its metrics by name.

    Raises:
        UserError: see `evaluation.bundle.read_records`.
    """
    config = read_config(folder)
    plan = make_plan(config, terminal)
    played = read_records(folder, plan)

    def found(plan: Plan, run: Run, directory: Path, terminal: Terminal) -> Outcome:
        run.tag({"played_on": "a device", "bundle": str(folder)})
        return played, find_references(plan, run, terminal), {}

    place = RunPlace(folder)
    with place.summary_on_failure():
        return make_run(plan, place, terminal, found)


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns 0, or 2 for a user's mistake."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.judge", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="brought back from the device, with its records")
    try:
        judge(parser.parse_args(arguments).folder, Terminal())
    except MISTAKES as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
