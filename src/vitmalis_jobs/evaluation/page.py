"""Make the page of a run that has none: `python -m evaluation.page RUN` (docs/run_page.md)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from vitmalis.video.spec import open_video
from vitmalis_jobs.common.cli import program, run_job
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Make a page as the command line says; returns the exit status: 0, or 2 for a user's mistake."""
    parser = argparse.ArgumentParser(prog=program("evaluation.page"), description=__doc__.partition(": `")[0] + ".")
    parser.add_argument("run", help=RUN_HELP)
    add_lookup_options(parser)
    options = parser.parse_args(arguments)

    def make() -> None:
        directory = find_run(options.run, options.tracking_uri)
        path = make_page(directory, ReferenceChoice.of(options))
        add_artifact(directory, path, options.tracking_uri)
        print(path)

    return run_job(make)


if __name__ == "__main__":
    sys.exit(main())
