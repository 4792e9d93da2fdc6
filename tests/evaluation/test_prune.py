"""What is deleted from `runs/`, and that nothing is deleted without `--yes`."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from vitmalis_jobs.evaluation.prune import main


def make_run(folder: Path, status: str | None, days: float) -> Path:
    (folder / "logs").mkdir(parents=True)
    (folder / "logs" / "client.log").write_text("said")
    if status is not None:
        (folder / "summary.json").write_text(json.dumps({"status": status}))
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (time.time() - 86400 * days,) * 2)
    return folder


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
    return {str(path.parent.relative_to(runs)) for path in runs.rglob("logs")}


ALL = {"evaluations/a", "evaluations/b", "sweeps/s/0", "sweeps/s/1"}


@pytest.mark.parametrize(
    ("options", "gone"),
    [
        ([], set()),
        (["--older-than", "30"], {"sweeps/s/0"}),
        (["--failed"], {"evaluations/b"}),  # what has just begun may be running
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


@pytest.mark.parametrize(
    ("options", "words"), [(["--cache", "wine"], "cache 'wine' is unknown"), (["--runs", "nowhere"], "does not exist")]
)
def test_mistakes(runs: Path, options: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--runs", str(runs), *options]) == 2
    assert words in capsys.readouterr().err
