"""Files that several users share."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from vitmalis.locks import file_lock
from vitmalis.paths import atomic_path, remove_empty, remove_if_only, socket_folder


@pytest.mark.parametrize(("folder_mode", "group_may_write"), [(0o2775, True), (0o755, False)])
def test_what_is_made_in_a_shared_folder_is_shared(tmp_path: Path, folder_mode: int, group_may_write: bool) -> None:
    tmp_path.chmod(folder_mode)
    before = os.umask(0o022)
    try:
        with file_lock(tmp_path / "a" / "b" / "run.lock"), atomic_path(tmp_path / "c" / "entry.json") as path:
            path.write_text("{}")
        made = [tmp_path / name for name in ("a", "a/b", "a/b/run.lock", "c")]
        assert [bool(path.stat().st_mode & stat.S_IWGRP) for path in made] == [group_may_write] * len(made)
    finally:
        os.umask(before)


HYDRA_AND_MLFLOW = """
import sys
from pathlib import Path
from vitmalis_jobs.common.cli import hydra_job
from vitmalis_jobs.common.mlflow_store import Store
@hydra_job("fit_traces", {})
def main(config):
    with Store("sqlite:///runs/mlflow.db", "tests", Path("runs/artifacts")).run("note", {}) as run:
        run.log_artifact(Path(__file__))
sys.exit(main())
"""


@pytest.mark.parametrize(("folder_mode", "group_may_write"), [(0o2775, True), (0o755, False)])
def test_what_hydra_and_mlflow_make_is_shared(tmp_path: Path, folder_mode: int, group_may_write: bool) -> None:
    (tmp_path / "job.py").write_text(HYDRA_AND_MLFLOW)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs").chmod(folder_mode)
    before = os.umask(0o022)
    try:
        subprocess.run([sys.executable, "job.py", "hydra.run.dir=runs/jobs/day/one"], cwd=tmp_path, check=True)
    finally:
        os.umask(before)
    made = {path: bool(path.stat().st_mode & stat.S_IWGRP) for path in (tmp_path / "runs").rglob("*")}
    assert {tmp_path / "runs/jobs/day/one", tmp_path / "runs/mlflow.db"} <= set(made)
    assert [path for path, shared in made.items() if shared != group_may_write and path.suffix != ".py"] == []


LOCK = """
import os, sys
from pathlib import Path
from vitmalis.locks import file_lock
from vitmalis_jobs.common.cli import run_job
if os.geteuid() == 0:
    os.setgid(65534); os.setuid(65534)
def job():
    with file_lock(Path("run.lock")):
        pass
sys.exit(run_job(job))
"""


def test_a_file_of_another_user_is_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "run.lock").touch()
    (tmp_path / "run.lock").chmod(0o444)
    if os.geteuid() == 0:
        for folder in (tmp_path, *tmp_path.parents):  # pytest's folders are closed to other users
            if folder.is_relative_to(tempfile.gettempdir()) and folder != Path(tempfile.gettempdir()):
                folder.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", LOCK], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"error: '{tmp_path}/run.lock' may not be opened or written: ")
    assert f"belongs to {tmp_path.owner()}" in done.stderr
    assert done.stderr.count("\n") == 1


def test_folders_are_removed_as_far_as_they_are_empty(tmp_path: Path) -> None:
    (tmp_path / "a/b/c").mkdir(parents=True)
    remove_empty(tmp_path / "a/b/c", tmp_path / "a")
    assert list(tmp_path.rglob("*")) == [tmp_path / "a"]
    remove_empty(tmp_path / "a", Path("/elsewhere"))
    assert (tmp_path / "a").exists()


@pytest.mark.parametrize("more", [[], ["x/other"], ["y"]])
def test_only_what_is_known_is_removed(tmp_path: Path, more: list[str]) -> None:
    folder = tmp_path / "a/b"
    for name in ("one", "x/two", *more):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    remove_if_only(folder, ("one", "x/two", "x/three"), tmp_path)
    assert folder.exists() == bool(more)
    assert bool(list(tmp_path.iterdir())) == bool(more)
    (tmp_path / "link").symlink_to(tmp_path)
    remove_if_only(tmp_path / "link", (), tmp_path)
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("depth", [0, 9])
def test_a_socket_fits_however_long_the_path_of_temporary_files_is(monkeypatch: pytest.MonkeyPatch, depth: int) -> None:
    usual = Path(tempfile.gettempdir(), *["a long name"] * depth)
    monkeypatch.setattr(tempfile, "tempdir", str(usual))
    with socket_folder() as folder, socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(folder / "0123456789"))
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert folder.parent == (Path("/tmp") if depth else usual)
    assert not folder.exists()
