"""Score what a device played: `python -m evaluation.device.score FOLDER`, a folder of `evaluation.device.export`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vitmalis_jobs.common.cli import USER_ERRORS, error_line
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.mlflow_store import Run
from vitmalis_jobs.evaluation.device.bundle import read_config, read_records
from vitmalis_jobs.run.directory import RunDirectory
from vitmalis_jobs.run.evaluate import Outcome, find_references, make_run
from vitmalis_jobs.run.spec import RunSpec, make_plan


def judge(folder: Path, terminal: Terminal) -> dict[str, float]:
    """Make the MLflow run of a device's records; returns its metrics by name.

    Raises:
        UserError: see `vitmalis_jobs.evaluation.device.bundle.read_records`.
    """
    config = read_config(folder)
    plan = make_plan(config, terminal)
    played = read_records(folder, plan)

    def found(plan: RunSpec, run: Run, directory: Path, terminal: Terminal) -> Outcome:
        run.tag({"played_on": "a device", "bundle": str(folder)})
        return played, find_references(plan, run, terminal), {}

    place = RunDirectory(folder)
    with place.summary_on_failure():
        return make_run(plan, place, terminal, found)


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns 0, or 2 for a user's mistake."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.device.score", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="brought back from the device, with its records")
    try:
        judge(parser.parse_args(arguments).folder, Terminal())
    except USER_ERRORS as error:
        print(f"error: {error_line(error)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
