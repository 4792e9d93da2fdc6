"""Score what a device played: `python -m evaluation.device.score FOLDER`, a folder of `evaluation.device.export`."""

from __future__ import annotations

import sys
from pathlib import Path

from vitmalis.command_line import CommandLine
from vitmalis_jobs.common.cli import job_parser, option_job
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.evaluation.device.bundle import device_records, kept_folder, read_config, take_records
from vitmalis_jobs.run.directory import RunDirectory
from vitmalis_jobs.run.execute import RunResult, Tag, find_references
from vitmalis_jobs.run.pipeline import make_run
from vitmalis_jobs.run.prepare import prepare_run
from vitmalis_jobs.run.resolve import resolve_run
from vitmalis_jobs.run.resources import Resources
from vitmalis_jobs.run.spec import PreparedRun


def score(folder: Path, terminal: Terminal) -> dict[str, float]:
    """Make the MLflow run of a device's records, in the folder that was kept of it; returns its metrics by name.

    Raises:
        UserError: see `kept_folder`, `read_config` and `device_records` in `vitmalis_jobs.evaluation.device.bundle`.
    """
    kept = kept_folder(folder)
    run = prepare_run(resolve_run(read_config(kept)), terminal)
    records = device_records(folder, kept, run)

    def played_on_device(
        run: PreparedRun, directory: Path, resources: Resources, terminal: Terminal, tag: Tag
    ) -> RunResult:
        tag({"played_on": "a device", "bundle": str(folder)})
        take_records(folder, kept)
        return RunResult(records, find_references(run, resources, terminal, tag))

    directory = RunDirectory(kept)
    with directory.summary_on_failure():
        return make_run(run, directory, played_on_device, Resources(), terminal)


def command_line() -> CommandLine:
    """The options of this job."""
    parser = job_parser(
        "evaluation.device.score",
        "Score what a device played from a folder of evaluation.device.export.",
        {
            "device_run": "the folder, brought back with its records",
        },
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder that was brought back from the device")
    return parser


main = option_job(command_line, lambda options: score(options.folder, Terminal()))


if __name__ == "__main__":
    sys.exit(main())
