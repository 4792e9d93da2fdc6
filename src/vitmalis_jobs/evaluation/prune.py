"""Show or delete old runs and caches in `runs/`: `python -m evaluation.prune`.

Without `--yes` it only shows what it would delete. Run folders are those that hold `.vitmalis-run`, which every run
writes; one that is being made, or holds another run, is never deleted, and nothing behind a link is. The MLflow store
keeps its runs and their artifacts (records, plots, logs); delete those in its UI, then `mlflow gc` frees their space.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from vitmalis.command_line import CommandLine
from vitmalis.errors import UserError
from vitmalis_jobs.common.cli import job_parser, option_job
from vitmalis_jobs.evaluation.run_folders import (
    RUN_PARENTS,
    contents_of,
    delete,
    lock_problem,
    run_folders,
    status_of,
    untouched_days,
)

CACHES = {
    "inference": "answers of virtual runs; inferred again",
    "references": "references that runs are scored with; computed again",
    "video": "rendered and cut clips; made again",
    "latency": "latency tables of this machine; measured again",
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A folder that was chosen for deletion.

    Attributes:
        path: the folder.
        why: the reason.
        size_bytes: its size.
        kept: why it is not deleted after all; empty if it is.
    """

    path: Path
    why: str
    size_bytes: int
    kept: str = ""


def candidates(runs: Path, *, older_than_days: float | None, failed: bool, caches: list[str]) -> list[Candidate]:
    """The folders that the options choose for deletion.

    Args:
        runs: the folder that everything is in.
        older_than_days: run folders that nothing was written to for longer.
        failed: run folders whose run did not finish.
        caches: names in `CACHES`.

    Raises:
        UserError: there is no such folder or cache, or the days are none.
    """
    if older_than_days is not None and not older_than_days >= 0:
        raise UserError(f"--older-than {older_than_days:g} would choose all runs, or none: give days from 0 on")
    if not runs.is_dir():
        raise UserError(f"runs folder '{runs}' does not exist: start this where you start evaluate.py, or give --runs")
    unknown = sorted(set(caches) - set(CACHES))
    if unknown:
        raise UserError(f"cache '{unknown[0]}' is unknown: choose from {', '.join(CACHES)}")
    chosen_runs = _runs(runs, older_than_days, failed) if failed or older_than_days is not None else ()
    return [*chosen_runs, *_caches(runs, caches)]


def _runs(runs: Path, older_than_days: float | None, failed: bool) -> Iterator[Candidate]:
    for parent in (runs / name for name in RUN_PARENTS):
        if parent.is_symlink():
            yield Candidate(parent, "runs", 0, "is a link")
    for folder in run_folders(runs):
        contents, status = contents_of(folder), status_of(folder)
        days = untouched_days(contents)
        if older_than_days is not None and days > older_than_days:
            why = f"untouched for {days:.0f} days"
        elif failed and status != "FINISHED" and days > 1:
            why = status.lower()
        else:
            continue
        kept = contents.problem or ("holds other runs" if contents.run_files else "") or lock_problem(folder)
        yield Candidate(folder, why, contents.size_bytes, kept)


def _caches(runs: Path, names: list[str]) -> Iterator[Candidate]:
    busy = next((folder for folder in run_folders(runs) if lock_problem(folder)), None) if names else None
    for name in names:
        for path in _cache_folders(runs / "cache", name):
            way = (path, *(each for each in path.parents if each.is_relative_to(runs / "cache")))
            link = next((each for each in way if each.is_symlink()), None)
            if link is not None:
                yield Candidate(path, CACHES[name], 0, "is a link" if link == path else f"lies behind the link {link}")
            elif path.is_dir():
                contents = contents_of(path)
                kept = contents.problem or (f"the run in {busy} may use it" if busy else "")
                yield Candidate(path, CACHES[name], contents.size_bytes, kept)


def _cache_folders(cache: Path, name: str) -> list[Path]:
    """Where a cache of this name may lie: in the folder of caches, and in that of each kind of GPU (`boxes_cache`)."""
    kinds = sorted(folder for folder in cache.glob("*") if folder.is_dir() and folder.name not in CACHES)
    return [cache / name, *(folder / name for folder in kinds)]


def show(runs: Path, found: list[Candidate], console: Console) -> None:
    """Print the size of each folder, and the candidates for deletion."""
    table = Table(title=str(runs), title_justify="left", box=None)
    table.add_column("folder")
    table.add_column("MB", justify="right")
    for folder in sorted(each for each in [*runs.iterdir(), *(runs / "cache").glob("*")] if each.is_dir()):
        size = "a link" if folder.is_symlink() else f"{contents_of(folder).size_bytes / 1e6:.1f}"
        table.add_row(str(folder.relative_to(runs)), size)
    console.print(table)
    for candidate in found:
        kept = f"; kept: {candidate.kept}" if candidate.kept else ""
        facts = f"{candidate.path}: {candidate.size_bytes / 1e6:.1f} MB, {candidate.why}{kept}"
        console.print(facts, highlight=False, markup=False, soft_wrap=True)


def command_line() -> CommandLine:
    """The options of this job."""
    parser = job_parser(
        "evaluation.prune",
        "Show or delete old runs and caches in runs/.",
        {
            "": "what there is",
            "--failed --older-than 30": "what would be deleted: failed runs, and runs older than 30 days",
            "--cache inference --yes": "delete the cache of inference results",
        },
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs")
    parser.add_argument(
        "--older-than", type=float, metavar="DAYS", help="choose run folders untouched for so many days (default: none)"
    )
    parser.add_argument("--failed", action="store_true", help="choose run folders without a finished run, a day old")
    parser.add_argument(
        "--cache", default="", metavar="NAMES", help=f"choose caches, with commas between: {', '.join(CACHES)}"
    )
    parser.add_argument("--yes", action="store_true", help="delete, instead of showing what would be deleted")
    return parser


def prune(options: argparse.Namespace) -> bool:
    """Show the chosen folders, and delete them with `--yes`; returns whether all that was to go is gone.

    Raises:
        UserError: as `candidates` does.
    """
    console, caches = Console(), [name for name in options.cache.split(",") if name]
    found = candidates(options.runs, older_than_days=options.older_than, failed=options.failed, caches=caches)
    show(options.runs, found, console)
    chosen, left = [candidate for candidate in found if not candidate.kept], list[str]()
    freed = sum(candidate.size_bytes for candidate in chosen)
    if options.yes:
        for candidate in chosen:
            if failures := delete(candidate.path):
                left += failures
                freed -= contents_of(candidate.path).size_bytes
    for failure in left:
        console.print(f"not deleted: {failure}", highlight=False, markup=False, soft_wrap=True)
    done = "deleted" if options.yes else "to be deleted with --yes"
    console.print(f"{len(chosen)} folders, {freed / 1e6:.1f} MB {done}" if found else "nothing chosen (see --help)")
    return not left


main = option_job(command_line, prune)


if __name__ == "__main__":
    sys.exit(main())
