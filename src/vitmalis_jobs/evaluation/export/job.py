"""Export the boxes of a run to the formats of other tools: `python -m evaluation.export RUN --format coco`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from vitmalis.errors import UserError
from vitmalis.video.spec import open_video
from vitmalis_jobs.common.cli import program, run_job
from vitmalis_jobs.evaluation.export.coco import write_coco
from vitmalis_jobs.evaluation.export.mot import write_mot
from vitmalis_jobs.evaluation.export.rerun_log import write_rerun
from vitmalis_jobs.evaluation.finished_run import RUN_HELP, ReferenceChoice, add_lookup_options, find_run, part_of
from vitmalis_jobs.evaluation.played_run import played_run
from vitmalis_jobs.run.page.build import PlayedRun

FORMATS = ("coco", "mot", "rerun")


def export(run: PlayedRun, form: str, folder: Path) -> list[Path]:
    """Write a run in one of `FORMATS` into a folder; returns the files.

    Raises:
        UserError: the run does not have what the format needs, or a package is not installed.
    """
    if form == "coco":
        return write_coco(run, folder)
    if form == "mot":
        return write_mot(run, folder)
    clip = run.session.video
    if clip.live:
        raise UserError(
            f"video '{clip.name}' was live, so that its frames are gone: --format mot needs none, and a recording "
            "(output.record=true) has them once it was scored (vitmalis score)"
        )
    return write_rerun(run, open_video(part_of(clip, 0, len(run.records.frames))), folder)


def main(arguments: Sequence[str] | None = None) -> int:
    """Export as the command line says; returns the exit status: 0, or 2 for a user's mistake."""
    parser = argparse.ArgumentParser(
        prog=program("evaluation.export"),
        description="Export what a run showed, and its references, to the formats of other tools.",
        epilog="coco: annotations.json and results.json; mot: results.txt, gt/gt.txt and seqinfo.ini, with ids by "
        "linking boxes from frame to frame; rerun: run.rrd with frames, boxes, F1 and latencies (docs/exports.md).",
    )
    parser.add_argument("run", help=RUN_HELP)
    parser.add_argument("--format", required=True, choices=FORMATS)
    parser.add_argument("--output", type=Path, help="folder for the files (default: export/FORMAT in the run's folder)")
    add_lookup_options(parser)
    options = parser.parse_args(arguments)

    def write() -> None:
        directory = find_run(options.run, options.tracking_uri)
        run = played_run(directory, ReferenceChoice.of(options))
        for path in export(run, options.format, options.output or directory / "export" / options.format):
            print(path)

    return run_job(write)


if __name__ == "__main__":
    sys.exit(main())
