"""What is deleted from `runs/`: only what runs have marked as theirs and nothing that plays, with `--yes`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vitmalis_jobs.evaluation.prune import main
from vitmalis_jobs.run.directory import RUN_FILE, RunDirectory

EVERYTHING = ["--older-than", "0", "--failed", "--cache", "inference,references,video,latency", "--yes"]


def make_run(folder: Path, status: str | None, days: float) -> Path:
    (folder / "logs").mkdir(parents=True)
    (folder / "logs" / "client.log").write_text("said")
    (folder / RUN_FILE).touch()
    if status is not None:
        (folder / "summary.json").write_text(json.dumps({"status": status}))
    return aged(folder, days)


def aged(folder: Path, days: float) -> Path:
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (time.time() - 86400 * days,) * 2, follow_symlinks=False)
    return folder


@contextmanager
def being_made(folder: Path) -> Iterator[None]:
    """Another process makes the run in a folder."""
    code = "import sys; from vitmalis_jobs.run.directory import *\n"
    code += "with RunDirectory(Path(sys.argv[1])).in_use(True): print('ready', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        try:
            yield
        finally:
            process.kill()


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    make_run(tmp_path / "runs/evaluations/a", "FINISHED", 1)
    make_run(tmp_path / "runs/evaluations/b", "FAILED", 2)
    make_run(tmp_path / "runs/sweeps/s/0", "FINISHED", 40)
    make_run(tmp_path / "runs/sweeps/s/1", None, 0)
    (tmp_path / "runs/cache/video").mkdir(parents=True)
    (tmp_path / "runs/cache/video/x.mp4").write_bytes(bytes(2_000_000))
    return tmp_path / "runs"


def left(runs: Path) -> set[str]:
    return {str(path.parent.relative_to(runs)) for path in runs.rglob(RUN_FILE)}


ALL = {"evaluations/a", "evaluations/b", "sweeps/s/0", "sweeps/s/1"}


@pytest.mark.parametrize(
    ("options", "gone"),
    [
        ([], set()),
        (["--older-than", "30"], {"sweeps/s/0"}),
        (["--failed"], {"evaluations/b"}),  # what has just begun is left
        (["--older-than", "0.5", "--failed"], {"evaluations/a", "evaluations/b", "sweeps/s/0"}),
    ],
)
def test_only_what_was_chosen_goes_and_only_with_yes(runs: Path, options: list[str], gone: set[str]) -> None:
    assert main(["--runs", str(runs), *options]) == 0
    assert left(runs) == ALL
    assert main(["--runs", str(runs), *options, "--yes"]) == 0
    assert left(runs) == ALL - gone


def test_caches_by_name(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--runs", str(runs), "--cache", "video,inference", "--yes"]) == 0
    assert "1 folders, 2.0 MB deleted" in capsys.readouterr().out
    assert not (runs / "cache/video").exists()
    assert left(runs) == ALL


def test_caches_of_a_gpu_go_too(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("cuda/inference", "cuda/references", "weights/cuda"):
        (runs / "cache" / name).mkdir(parents=True)
        (runs / "cache" / name / "x").write_bytes(bytes(1_000_000))
    assert main(["--runs", str(runs), "--cache", "inference,references,latency"]) == 0
    assert f"{runs}/cache/cuda/inference: 1.0 MB" in capsys.readouterr().out.replace("\n", "")
    assert main(["--runs", str(runs), "--cache", "inference,references,latency", "--yes"]) == 0
    assert "2 folders, 2.0 MB deleted" in capsys.readouterr().out
    assert not any((runs / "cache/cuda").iterdir())
    assert (runs / "cache/weights/cuda/x").exists()
    assert (runs / "cache/video").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--cache", "wine"], "cache 'wine' is unknown"),
        (["--runs", "nowhere"], "does not exist"),
        (["--older-than", "-1"], "--older-than -1 would choose all runs, or none: give days from 0 on"),
        (["--older-than", "nan"], "--older-than nan would choose all runs, or none"),
    ],
)
def test_mistakes(runs: Path, options: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--runs", str(runs), *options]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("name", ["logs", "logs/logs", "cache", ".hydra", "summary.json"])
def test_whatever_a_sweep_is_called_its_finished_runs_stay(runs: Path, name: str) -> None:
    make_run(runs / "sweeps" / name / "0", "FINISHED", 9)
    make_run(runs / "sweeps" / name / "1", "FAILED", 9)
    assert main(["--runs", str(runs), "--failed", "--yes"]) == 0
    assert left(runs) == ALL - {"evaluations/b"} | {f"sweeps/{name}/0"}


@pytest.mark.parametrize("inner", ["marked", "finished"])
def test_a_folder_that_holds_another_run_stays(runs: Path, inner: str, capsys: pytest.CaptureFixture[str]) -> None:
    outer = make_run(runs / "sweeps/s/2", "FAILED", 9)
    make_run(outer / "deep" / "run", "FINISHED", 9)
    if inner == "finished":  # as an earlier version has left it, without a mark
        (outer / "deep" / "run" / RUN_FILE).unlink()
    aged(outer, 9)
    assert main(["--runs", str(runs), "--failed", "--yes"]) == 0
    assert (outer / "deep/run/summary.json").exists()
    assert "holds other runs" in capsys.readouterr().out


def test_folders_of_others_stay(runs: Path) -> None:
    """Also those that look like a run, or whose mark is a link."""
    for name in ("evaluations/notes", "sweeps/s/thesis", "sweeps/plots"):
        (runs / name / "logs").mkdir(parents=True)
        (runs / name / "summary.json").write_text('{"status": "FAILED"}')
        aged(runs / name, 99)
    (runs / "sweeps/plots" / RUN_FILE).symlink_to(runs / "evaluations/a" / RUN_FILE)
    assert main(["--runs", str(runs), *EVERYTHING]) == 0
    assert (runs / "evaluations/notes/summary.json").exists()
    assert (runs / "sweeps/s/thesis/summary.json").exists()
    assert (runs / "sweeps/plots/summary.json").exists()


def test_nothing_behind_a_link_goes(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    elsewhere = make_run(tmp_path / "elsewhere/run", "FAILED", 9)
    (runs / "sweeps/linked").symlink_to(elsewhere.parent)
    (runs / "sweeps/s/0/inside").symlink_to(elsewhere)
    (runs / "sweeps/s/0/dangling").symlink_to(tmp_path / "gone")
    (runs / "cache/inference").symlink_to(elsewhere)
    assert main(["--runs", str(runs), *EVERYTHING]) == 0
    assert (elsewhere / "summary.json").exists()
    assert left(runs) == set()
    assert (runs / "cache/inference").is_symlink()
    output = capsys.readouterr().out
    assert "is a link" in output
    assert "5 folders" in output


@pytest.mark.parametrize("linked", ["sweeps", "cache", "cache/cuda"])
def test_parents_that_are_links_stay_as_they_are(runs: Path, linked: str, capsys: pytest.CaptureFixture[str]) -> None:
    elsewhere = runs.parent / "elsewhere"
    (runs / "cache/cuda/inference").mkdir(parents=True)
    (runs / linked).rename(elsewhere)
    (runs / linked).symlink_to(elsewhere)
    before = sorted(elsewhere.rglob("*"))
    assert main(["--runs", str(runs), *EVERYTHING]) == 0
    assert sorted(elsewhere.rglob("*")) == before
    assert "link" in capsys.readouterr().out


def test_a_run_that_is_being_made_is_never_deleted(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with being_made(aged(runs / "sweeps/s/0", 99)):
        aged(runs / "sweeps/s/0", 99)
        assert main(["--runs", str(runs), *EVERYTHING]) == 0
        assert left(runs) == {"sweeps/s/0"}
        assert (runs / "sweeps/s/0/summary.json").exists()
        assert (runs / "cache/video/x.mp4").exists(), "the run may read it"
    assert "is being made" in capsys.readouterr().out
    assert main(["--runs", str(runs), *EVERYTHING]) == 0
    assert left(runs) == set()
    assert not (runs / "cache/video").exists()


OTHER_USER = """
import os, sys
from vitmalis_jobs.evaluation.prune import main
main(["--runs", "nowhere"])  # imports what another user may not read
if os.geteuid() == 0:
    os.setgid(65534); os.setuid(65534)
sys.exit(main(sys.argv[1:]))
"""


def test_what_cannot_be_deleted_is_named(runs: Path) -> None:
    """A folder that cannot be read stays as it is; one whose files cannot be removed is reported, with status 1."""
    unreadable, fixed = runs / "evaluations/a", runs / "evaluations/b"
    if os.geteuid() == 0:
        for folder in (runs, *runs.parents):  # pytest's folders are closed to other users
            if folder.is_relative_to(tempfile.gettempdir()) and folder != Path(tempfile.gettempdir()):
                folder.chmod(0o755)
    for run in (unreadable, fixed):
        (run / RUN_FILE).chmod(0o666)
    (unreadable / "logs").chmod(0)
    fixed.chmod(0o555)
    command = [sys.executable, "-c", OTHER_USER, "--runs", str(runs / "evaluations/.."), "--older-than", "0.5", "--yes"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    (unreadable / "logs").chmod(0o755)
    fixed.chmod(0o755)
    assert done.returncode == 1, done.stderr
    assert "a: 0.0 MB, untouched for 1 days; kept: " in done.stdout
    assert "Permission denied" in done.stdout
    assert "not deleted: " in done.stdout
    assert (unreadable / "logs/client.log").exists()
    assert (fixed / "summary.json").exists()


def test_a_directory_in_use_is_marked(tmp_path: Path) -> None:
    with RunDirectory(tmp_path / "new").in_use(wait=False):
        assert (tmp_path / "new" / RUN_FILE).is_file()
    assert (tmp_path / "new" / RUN_FILE).is_file()
