"""Show or delete old runs and caches in `runs/`: `python -m evaluation.prune`.

Without `--yes` it only shows what it would delete. The MLflow store keeps its runs and their artifacts (records, plots,
logs); delete those in its UI, then `mlflow gc` frees their space.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from vitmalis.errors import UserError
from vitmalis_jobs.common.cli import program, run_job
from vitmalis_jobs.run.directory import SUMMARY_FILE

RUN_PARENTS = ("evaluations", "sweeps")
CACHES = {
    "inference": "answers of virtual runs; inferred again",
    "references": "references that runs are scored with; computed again",
    "video": "rendered and cut clips; made again",
    "latency": "latency tables of this machine; measured again",
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A folder that may be deleted, with the reason and its size in bytes."""

    path: Path
    why: str
    size_bytes: int


def size_of(path: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(each.stat().st_size for each in path.rglob("*") if each.is_file() and not each.is_symlink())


def run_folders(runs: Path) -> Iterator[tuple[Path, str]]:
    """Folders of single runs with their status; `unfinished` for those without a summary."""
    for parent in RUN_PARENTS:
        for logs in sorted((runs / parent).rglob("logs")):  # every run has one from its first moment
            folder = logs.parent
            try:
                status = str(json.loads((folder / SUMMARY_FILE).read_text())["status"])
            except FileNotFoundError:
                status = "unfinished"
            except (json.JSONDecodeError, KeyError):
                status = "damaged"
            yield folder, status


def candidates(runs: Path, *, older_than_days: float | None, failed: bool, caches: list[str]) -> list[Candidate]:
    """The folders that the options choose for deletion.

    Args:
        runs: the folder that everything is in.
        older_than_days: run folders that nothing was written to for longer.
        failed: run folders whose run did not finish.
        caches: names in `CACHES`.

    Raises:
        UserError: there is no such folder or cache.
    """
    if not runs.is_dir():
        raise UserError(f"runs folder '{runs}' does not exist: start this where you start evaluate.py, or give --runs")
    unknown = sorted(set(caches) - set(CACHES))
    if unknown:
        raise UserError(f"cache '{unknown[0]}' is unknown: choose from {', '.join(CACHES)}")
    found, now_s = [], time.time()
    for folder, status in run_folders(runs):
        days = (now_s - max(each.stat().st_mtime for each in [folder, *folder.rglob("*")])) / 86400
        if older_than_days is not None and days > older_than_days:
            found.append(Candidate(folder, f"untouched for {days:.0f} days", size_of(folder)))
        elif (
            failed and status != "FINISHED" and days > 1
        ):  # younger ones may be running: a run writes little before its end
            found.append(Candidate(folder, status.lower(), size_of(folder)))
    kept = {name: runs / "cache" / name for name in caches}
    return found + [Candidate(path, CACHES[name], size_of(path)) for name, path in kept.items() if path.is_dir()]


def show(runs: Path, found: list[Candidate], console: Console) -> None:
    """Print the size of each folder, and the candidates for deletion."""
    table = Table(title=str(runs), title_justify="left", box=None)
    table.add_column("folder")
    table.add_column("MB", justify="right")
    for folder in sorted(each for each in [*runs.iterdir(), *(runs / "cache").glob("*")] if each.is_dir()):
        table.add_row(str(folder.relative_to(runs)), f"{size_of(folder) / 1e6:.1f}")
    console.print(table)
    for candidate in found:
        console.print(f"{candidate.path}: {candidate.size_bytes / 1e6:.1f} MB, {candidate.why}", highlight=False)


def main(arguments: list[str] | None = None) -> int:
    """Prune as the command line says; returns the exit status: 0, or 2 for a user's mistake."""
    parser = argparse.ArgumentParser(prog=program("evaluation.prune"), description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--older-than", type=float, metavar="DAYS", help="run folders untouched for longer")
    parser.add_argument("--failed", action="store_true", help="run folders without a finished run, a day old or more")
    parser.add_argument("--cache", default="", metavar="NAMES", help=f"by commas: {', '.join(CACHES)}")
    parser.add_argument("--yes", action="store_true", help="delete, instead of showing what would be deleted")
    options, console = parser.parse_args(arguments), Console()
    caches = [name for name in options.cache.split(",") if name]
    return run_job(lambda: prune(options, caches, console))


def prune(options: argparse.Namespace, caches: list[str], console: Console) -> None:
    """Show the chosen folders, and delete them with `--yes`; raises `UserError` as `candidates` does."""
    found = candidates(options.runs, older_than_days=options.older_than, failed=options.failed, caches=caches)
    show(options.runs, found, console)
    if options.yes:
        for candidate in found:
            shutil.rmtree(candidate.path, ignore_errors=True)
    freed = sum(candidate.size_bytes for candidate in found) / 1e6
    done = "deleted" if options.yes else "to be deleted with --yes"
    console.print(f"{len(found)} folders, {freed:.1f} MB {done}" if found else "nothing chosen (see --help)")


if __name__ == "__main__":
    sys.exit(main())
