"""The folders of runs below `runs/`, found by the mark that every run leaves in its own, and what is in them."""

from __future__ import annotations

import json
import os
import shutil
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from vitmalis_jobs.run.directory import RUN_FILE, SUMMARY_FILE

RUN_PARENTS = ("evaluations", "sweeps")


@dataclass(frozen=True, slots=True)
class Contents:
    """What is in a folder and below; links count as themselves.

    Attributes:
        size_bytes: of all files.
        changed_s: when the last change was, seconds since the epoch.
        run_files: marks of runs and summaries of finished ones, other than the folder's own.
        problem: why something could not be looked at; empty where all could.
    """

    size_bytes: int
    changed_s: float
    run_files: list[Path]
    problem: str


def contents_of(folder: Path) -> Contents:
    """Look at a folder without following links; what vanishes meanwhile does not count."""
    size_bytes, changed_s, run_files, problems = 0, 0.0, list[Path](), list[str]()

    def note(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            problems.append(f"{error.filename}: {error.strerror}")

    for path, _, names in os.walk(folder, onerror=note):
        for each in (Path(path), *(Path(path) / name for name in names)):
            try:
                about = each.lstat()
            except OSError as error:
                note(error)
                continue
            changed_s = max(changed_s, about.st_mtime)
            size_bytes += about.st_size if stat.S_ISREG(about.st_mode) else 0
            if each.parent != folder and _tells_of_run(each):
                run_files.append(each)
    return Contents(size_bytes, changed_s, run_files, "; ".join(problems))


def _tells_of_run(path: Path) -> bool:
    return path.name == RUN_FILE or (path.name == SUMMARY_FILE and status_of(path.parent) == "FINISHED")


def run_folders(runs: Path) -> Iterator[Path]:
    """The folders of runs; those behind links are not ours to find."""
    for parent in (runs / name for name in RUN_PARENTS):
        if parent.is_symlink():
            continue
        for path, folders, names in os.walk(parent):
            folders.sort()
            mark = Path(path) / RUN_FILE
            if RUN_FILE in names and not mark.is_symlink():
                yield Path(path)


def status_of(folder: Path) -> str:
    """Status of the run in a folder; `unfinished` without a summary, `damaged` where it cannot be read."""
    try:
        return str(json.loads((folder / SUMMARY_FILE).read_text())["status"])
    except FileNotFoundError:
        return "unfinished"
    except (OSError, ValueError, KeyError, TypeError):
        return "damaged"


def untouched_days(contents: Contents) -> float:
    """Days since the last change."""
    return (time.time() - contents.changed_s) / 86400


def lock_problem(folder: Path) -> str:
    """Why the run in a folder cannot be locked: a process is making it, or its lock is another user's; else empty."""
    try:
        with FileLock(folder / RUN_FILE, timeout=0):
            return ""
    except Timeout:
        return "is being made"
    except OSError as error:
        return f"{RUN_FILE}: {error.strerror}"


def delete(folder: Path) -> list[str]:
    """Delete a folder, but nothing behind links; returns what could not be deleted, with the reason.

    The folder of a run is locked meanwhile, and one whose run plays is left.
    """
    left: list[str] = []

    def note(_: object, path: str, failure: tuple[type[BaseException], BaseException, object]) -> None:
        error = failure[1]
        if not isinstance(error, FileNotFoundError):
            left.append(f"{path}: {getattr(error, 'strerror', None) or error}")

    if not (folder / RUN_FILE).exists():
        shutil.rmtree(folder, onerror=note)
        return left
    try:
        with FileLock(folder / RUN_FILE, timeout=0):
            shutil.rmtree(folder, onerror=note)
    except OSError as error:  # of the lock
        left.append(f"{folder}: {error.strerror or 'is being made'}")
    return left
