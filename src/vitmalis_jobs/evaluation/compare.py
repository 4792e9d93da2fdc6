"""Compare two runs of one clip and trace on a page: `python -m evaluation.compare RUN_A RUN_B` (docs/run_page.md)."""

from __future__ import annotations

import argparse
import os
import re
import sys
import webbrowser
from pathlib import Path

from vitmalis.command_line import CommandLine
from vitmalis.errors import UserError
from vitmalis_jobs.common.cli import job_parser, option_job
from vitmalis_jobs.evaluation.finished_run import CACHED_OR_COMPUTED, ReferenceChoice, add_lookup_options, find_run
from vitmalis_jobs.evaluation.page import make_page
from vitmalis_jobs.run.page.document import Capacity, RunDocument
from vitmalis_jobs.run.page.files import PAGE_FILE, Page, copy_video, read_page, write_page

COMPARISONS = Path("runs") / "comparisons"


def page_of(run: str, tracking_uri: str, choice: ReferenceChoice = CACHED_OR_COMPUTED) -> Page:
    """The page of a run, made where it has none.

    Args:
        run: its page, its folder, or its MLflow run id.
        tracking_uri: MLflow store that knows the id.
        choice: references of a page that has to be made.

    Raises:
        UserError: there is no such run, or its page can be neither read nor made.
    """
    if Path(run).is_file():
        return read_page(Path(run))
    directory = find_run(run, tracking_uri)
    path = directory / PAGE_FILE
    return read_page(path if path.is_file() else make_page(directory, choice))


def compare(first: Page, second: Page, path: Path | None = None) -> Path:
    """Write the page that compares two runs.

    Args:
        first, second: pages of the runs.
        path: of the page; None for one below `runs/comparisons` that is named after the runs.

    Returns:
        The page.

    Raises:
        UserError: the runs are not of one clip and one trace.
    """
    check_comparable(first.document, second.document)
    a, b = first.document, second.document
    names = names_of(a, b)
    path = path or COMPARISONS / f"{'-'.join((a.clip.name, a.trace, *map(_in_file_name, names)))}.html"
    title = f"{' and '.join(names)} on {a.clip.name} over {a.trace}"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_page(path, "compare", title, [a, b], copy_video(first, path))
    return path


def names_of(a: RunDocument, b: RunDocument) -> tuple[str, str]:
    """Names of two runs: their policies, with the options of these where both are of one policy and options differ."""
    said = a.facts.get("policy", ""), b.facts.get("policy", "")
    alike = a.policy == b.policy and all(said) and said[0] != said[1]
    return said if alike else (a.policy, b.policy)


def _in_file_name(name: str) -> str:
    """A name as part of a file name, which file systems limit."""
    return "-".join(re.findall(r"[\w.]+", name))[:80]


def check_comparable(a: RunDocument, b: RunDocument) -> None:
    """Check that two runs played the same frames over the same network.

    Raises:
        UserError: they did not; names what differs.
    """
    same_frames = a.clip.digest == b.clip.digest and len(a.frames.captured) == len(b.frames.captured)
    if not (same_frames and a.clip.digest):
        raise UserError(
            f"the runs are of different clips, {_clip(a)} and {_clip(b)}: compare runs with the same video, "
            "eval.seconds and eval.start_s"
        )
    if a.trace != b.trace or not _same_capacity(a.capacity, b.capacity):
        raise UserError(
            f"the runs are over different traces, {_trace(a)} and {_trace(b)}: compare runs with the same trace, "
            "trace.index, trace.start_s, trace.capacity_scale and trace.rtt_scale"
        )
    if (a.iou_threshold, a.score_threshold) != (b.iou_threshold, b.score_threshold):
        raise UserError(
            "the runs count boxes by different rules: compare runs with the same eval.iou_threshold and "
            "eval.score_threshold"
        )


def _same_capacity(a: Capacity | None, b: Capacity | None) -> bool:
    """Whether two links are the same as long as both are known; one may have been recorded a little longer."""
    if a is None or b is None:
        return a is b
    rows = min(len(a.time_s), len(b.time_s))
    columns = ((a.time_s, b.time_s), (a.uplink_mbps, b.uplink_mbps), (a.rtt_ms, b.rtt_ms))
    return all(one[:rows] == other[:rows] for one, other in columns)


def _clip(run: RunDocument) -> str:
    return f"{run.clip.name} ({len(run.frames.captured)} frames of {run.clip.width}x{run.clip.height})"


def _trace(run: RunDocument) -> str:
    rates = run.capacity.uplink_mbps if run.capacity else []
    return f"{run.trace} ({rates[0]:.1f} Mbps at its start)" if rates else run.trace


def open_page(path: Path) -> None:
    """Open a page in the user's browser; without a display, say what to do with it."""
    has_display = sys.platform in ("darwin", "win32") or bool({"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ))
    if not (has_display and webbrowser.open(path.absolute().as_uri())):
        print("there is no browser here: open the file on a machine that has one", file=sys.stderr)


def command_line() -> CommandLine:
    """The options of this job."""
    parser = job_parser(
        "evaluation.compare",
        "Compare two runs of one clip and trace on a page: two videos, one slider, the difference of F1.",
        {
            "RUN_A RUN_B --open": "folders, pages or MLflow run ids",
        },
    )
    for name, place in (("run_a", "left"), ("run_b", "right")):
        text = f"the run at the {place}: its folder, its page, or its MLflow run id"
        parser.add_argument(name, metavar=name.upper(), help=text)
    parser.add_argument("--output", type=Path, help=f"file of the page (default: one in {COMPARISONS})")
    parser.add_argument("--open", action="store_true", help="open the page in a browser")
    add_lookup_options(parser)
    return parser


def print_comparison(options: argparse.Namespace) -> None:
    """Make the page that the command line asks for, and print where it is."""
    choice = ReferenceChoice.of(options)
    first, second = (page_of(run, options.tracking_uri, choice) for run in (options.run_a, options.run_b))
    path = compare(first, second, options.output)
    print(path)
    if options.open:
        open_page(path)


main = option_job(command_line, print_comparison)


if __name__ == "__main__":
    sys.exit(main())
