"""A full disk is one line with its first cause, whatever fails after it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vitmalis.errors import UserError
from vitmalis_jobs.common.storage_errors import noted_on, storage_errors

FULL = """
import os, sys, tempfile, traceback
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from vitmalis.errors import UserError
from vitmalis_jobs.common import mlflow_store
from vitmalis_jobs.common.storage_errors import storage_errors
folder, refilled, freed = Path(sys.argv[1]), "refilled" in sys.argv, "freed" in sys.argv
def fill():
    with suppress(OSError), (folder / "fill").open("ab", buffering=0) as file:
        while True:
            file.write(bytes(4096))
@contextmanager
def reserved(**options):
    try:
        with tempfile.TemporaryFile(**options) as file:
            yield file
    finally:
        if refilled:
            fill()
def pauses():
    yield 0.0
    if freed:
        (folder / "fill").unlink()
    yield 0.0
mlflow_store.tempfile = SimpleNamespace(TemporaryFile=reserved)
mlflow_store.RETRIES_S = pauses()
store = mlflow_store.Store(f"sqlite:///{folder}/mlflow.db", "full", folder / "artifacts")
try:
    with storage_errors(), store.run("full", {}) as run:
        fill()
        run.log_params({f"p{i}": "x" * 500 for i in range(2000)})
except UserError as error:
    print(error)
    stored = store.client.get_run(run.run_id)
    print(stored.info.status, "error" in stored.data.tags)
    print("is not marked as FAILED" in "".join(traceback.format_exception(error)), flush=True)
"""
"""Fills the disk of a run's store; `refilled`: also what the store had reserved; `freed`: then makes room again."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize(
    ("after", "status"),
    [((), "FAILED True"), (("refilled", "freed"), "FAILED False"), (("refilled",), "RUNNING False")],
)
def test_a_full_disk_under_the_store(disk: Path, after: tuple[str, ...], status: str) -> None:
    """The run ends as FAILED, in the space that was reserved for that, or once there is room again.

    If others take that space, too, the next start finds that its process is gone.
    """
    command = [sys.executable, "-c", FULL, str(disk), *after]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    line, ended_as, noted = done.stdout.splitlines()
    assert line.startswith("results cannot be stored: SQLite: database or disk is full: "), line
    assert line.endswith("then start this again")
    assert (ended_as, noted) == (status, str(status.startswith("RUNNING")))


def test_a_disk_that_is_full_is_named_and_bugs_stay_bugs() -> None:
    with pytest.raises(UserError, match=r"'/dev/full': No space left on device: free some space"), storage_errors():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/dev/full")
    with pytest.raises(UserError, match="No space left on device"), storage_errors(), open("/dev/full", "wb") as full:  # noqa: PTH123
        full.write(bytes(10**6))
    with pytest.raises(UserError, match="Read-only file system: use another disk, then"), storage_errors():
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), "/runs/x")
    bug = KeyError("a bug")
    bug.__context__ = OSError(errno.ENOSPC, "handled before")
    for other in (bug, FileNotFoundError(errno.ENOENT, "gone", "x")):
        with pytest.raises(type(other)), storage_errors():
            raise other


def test_what_fails_while_an_error_is_handled_is_a_note_on_it() -> None:
    first = ValueError("first")
    with noted_on(first, "no log"):
        raise OSError("second")
    assert first.__notes__ == ["no log: OSError: second"]
    with pytest.raises(OSError, match="alone"), noted_on(None, "no log"):
        raise OSError("alone")
