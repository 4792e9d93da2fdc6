"""Play a clip under two policies and open a page that compares them: `python -m evaluation.demo`."""

from __future__ import annotations

import argparse
import sys
from datetime import datetime
from pathlib import Path

from vitmalis.command_line import CommandLine
from vitmalis_jobs.common.cli import job_parser, option_job
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.evaluation.compare import compare, open_page
from vitmalis_jobs.run.config import composed
from vitmalis_jobs.run.directory import RunDirectory
from vitmalis_jobs.run.page.files import PAGE_FILE, Page, read_page
from vitmalis_jobs.run.pipeline import run_evaluation
from vitmalis_jobs.run.resources import Resources

POLICIES = ("back2back", "vitmalis")
OPTIONS = (
    "clock=virtual",
    "latency=paper_testbed",
    "output.figures=false",
    "output.video_seconds=0",
)


def demo(video: str, seconds: float, folder: Path, terminal: Terminal) -> Path:
    """Make one run of each policy on the virtual clock; returns the page that compares them."""
    resources, pages = Resources(), list[Page]()
    for policy in POLICIES:
        overrides = (f"video={video}", f"policy={policy}", f"eval.seconds={seconds:g}", *OPTIONS)
        config, directory = composed(overrides), RunDirectory(folder / policy, overrides=overrides)
        with directory.summary_on_failure():
            run_evaluation(config, directory, resources, terminal)
        pages.append(read_page(directory.path / PAGE_FILE))
    first, second = pages
    return compare(first, second, folder / "compare.html")


def command_line() -> CommandLine:
    """The options of this job."""
    parser = job_parser(
        "evaluation.demo",
        "Play a clip under two policies and open a page that compares them.",
        {
            "": "four seconds of the embedded clip",
            "--seconds 2 --no-open": "two seconds, and only the path of the page",
            "--video walkS": "a rendered clip, which needs no network",
        },
    )
    parser.add_argument("--video", metavar="NAME", default="market1906_demo", help="clip to play")
    parser.add_argument("--seconds", type=float, default=4.0, help="seconds of the clip; the embedded one lasts 10")
    parser.add_argument("--no-open", action="store_true", help="print the page's path, without opening it")
    return parser


def show_demo(options: argparse.Namespace) -> None:
    """Make the demo, print where its page is, and open it."""
    folder = Path("runs") / "evaluations" / f"{datetime.now():%Y-%m-%d}" / f"demo-{datetime.now():%H-%M-%S}"
    path = demo(options.video, options.seconds, folder, Terminal())
    print(f"look: {path}")
    if not options.no_open:
        open_page(path)


main = option_job(command_line, show_demo)


if __name__ == "__main__":
    sys.exit(main())
