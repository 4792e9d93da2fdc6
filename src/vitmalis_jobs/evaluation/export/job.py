"""Export a run to the formats of other tools: `python -m evaluation.export RUN --format coco`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vitmalis.command_line import CommandLine
from vitmalis.errors import UserError
from vitmalis.video.spec import open_video
from vitmalis_jobs.common.cli import job_parser, option_job
from vitmalis_jobs.evaluation.export.coco import write_coco
from vitmalis_jobs.evaluation.export.mot import write_mot
from vitmalis_jobs.evaluation.export.mots import write_mots
from vitmalis_jobs.evaluation.export.rerun_log import write_rerun
from vitmalis_jobs.evaluation.finished_run import RUN_HELP, ReferenceChoice, add_lookup_options, find_run, part_of
from vitmalis_jobs.evaluation.played_run import played_run
from vitmalis_jobs.run.page.build import PlayedRun

FORMATS = ("coco", "mot", "mots", "rerun")


def export(run: PlayedRun, form: str, folder: Path) -> list[Path]:
    """Write a run in one of `FORMATS` into a folder; returns the files.

    Raises:
        UserError: the run does not have what the format needs, or a package is not installed.
    """
    if form == "coco":
        return write_coco(run, folder)
    if form == "mot":
        return write_mot(run, folder)
    if form == "mots":
        return write_mots(run, folder)
    clip = run.session.video
    if clip.live:
        raise UserError(
            f"video '{clip.name}' was live, so that its frames are gone: --format mot needs none, and a recording "
            "(output.record=true) has them once it was scored (vitmalis score)"
        )
    return write_rerun(run, open_video(part_of(clip, 0, len(run.records.frames))), folder)


def command_line() -> CommandLine:
    """The options of this job."""
    parser = job_parser(
        "evaluation.export",
        "Export what a run showed, and its references, to the formats of other tools.",
        {
            "RUN --format coco": "annotations.json and results.json",
            "RUN --format mot": "results.txt, gt/gt.txt, seqinfo.ini",
            "RUN --format mots": "the same of masks, of a run with model.task=instances",
            "RUN --format rerun --no-reference": "run.rrd, without the model's references",
        },
        "mot, mots: ids come from linking boxes from frame to frame. rerun: frames, boxes, masks, F1 and latencies "
        "over time.",
    )
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    parser.add_argument("--format", required=True, choices=FORMATS, help="format of the files (docs/exports.md)")
    parser.add_argument("--output", type=Path, help="folder for the files (default: export/FORMAT in the run's folder)")
    add_lookup_options(parser)
    return parser


def export_run(options: argparse.Namespace) -> None:
    """Export the run that the command line names, and print where the files are."""
    directory = find_run(options.run, options.tracking_uri)
    run = played_run(directory, ReferenceChoice.of(options))
    for path in export(run, options.format, options.output or directory / "export" / options.format):
        print(path)


main = option_job(command_line, export_run)


if __name__ == "__main__":
    sys.exit(main())
