"""Make the page of a run that has none: `python -m evaluation.page RUN` (docs/run_page.md)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from vitmalis.client.session import SESSION_FILE, read_session
from vitmalis.metrics import MatchRule, summarise
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
    read_run_config,
    run_references,
)
from vitmalis_jobs.run.directory import read_summary
from vitmalis_jobs.run.page.build import PlayedRun, run_document
from vitmalis_jobs.run.page.files import PAGE_FILE, write_run_page
from vitmalis_jobs.run.record_checks import check_records
from vitmalis_jobs.run.records import read_records
from vitmalis_jobs.run.trace_file import read_trace


def make_page(directory: Path, choice: ReferenceChoice = CACHED_OR_COMPUTED) -> Path:
    """Write the page of the run in a folder; returns its file.

    Raises:
        UserError: the folder holds no run, its files do not fit together, or its clip is gone.
    """
    records, session = read_records(directory), read_session(directory / SESSION_FILE)
    config = read_run_config(directory)
    check_records(directory, records, session.video, session.geometry)
    clip, frames = session.video, range(len(records.frames))
    references = None if clip.live else run_references(clip, config, choice, frames)
    rule = MatchRule(config.eval.iou_threshold, config.eval.score_threshold)
    stand_ins = (read_summary(directory) or {}).get("stand_ins", {})
    played = PlayedRun(
        session=session,
        records=records,
        references=references,
        rule=rule,
        trace=read_trace(directory),
        metrics=summarise(records.frames, records.offloads, references, rule),
        stand_ins={str(part): str(what) for part, what in dict(stand_ins).items()},
        facts={"model": config.model.name, "clock": config.clock.name},
    )
    images = None if clip.live else open_video(part_of(clip, 0, len(frames)))
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
