"""Make the page of a run that has none: `python -m evaluation.page RUN` (docs/run_page.md)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vitmalis.command_line import CommandLine
from vitmalis.video.spec import open_video
from vitmalis_jobs.common.cli import job_parser, option_job
from vitmalis_jobs.evaluation.finished_run import (
    CACHED_OR_COMPUTED,
    RUN_HELP,
    ReferenceChoice,
    add_artifact,
    add_lookup_options,
    find_run,
    part_of,
)
from vitmalis_jobs.evaluation.played_run import played_run
from vitmalis_jobs.run.page.build import run_document
from vitmalis_jobs.run.page.files import PAGE_FILE, write_run_page


def make_page(directory: Path, choice: ReferenceChoice = CACHED_OR_COMPUTED) -> Path:
    """Write the page of the run in a folder; returns its file.

    Raises:
        UserError: the folder holds no run, its files do not fit together, or its clip is gone.
    """
    played = played_run(directory, choice)
    clip, frames = played.session.video, len(played.records.frames)
    images = None if clip.live else open_video(part_of(clip, 0, frames))
    return write_run_page(directory / PAGE_FILE, run_document(played), images)[0]


def command_line() -> CommandLine:
    """The options of this job."""
    parser = job_parser(
        "evaluation.page",
        "Make the page of a run that has none, or make it again.",
        {
            "runs/evaluations/2026-03-01/12-00-00": "a run's folder",
            "0123456789abcdef --no-reference": "an MLflow run, without the F1 of frames and thus without its model",
        },
    )
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    add_lookup_options(parser)
    return parser


def print_page(options: argparse.Namespace) -> None:
    """Make the page that the command line asks for, log it to the run's MLflow run, and print where it is."""
    directory = find_run(options.run, options.tracking_uri)
    path = make_page(directory, ReferenceChoice.of(options))
    add_artifact(directory, path, options.tracking_uri)
    print(path)


main = option_job(command_line, print_page)


if __name__ == "__main__":
    sys.exit(main())
