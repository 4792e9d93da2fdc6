"""Every job of the `vitmalis` command: status 2 and one line that names what is wrong (`test_help.py` has the rest)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from vitmalis_jobs import cli

MISTAKES = {
    "evaluate": (["policy=none"], "policy=none is unknown"),
    "serve": (["--address", "nowhere"], "'nowhere' cannot be bound"),
    "report": (["no_such_sweep"], "no_such_sweep"),
    "demo": (["--seconds", "0"], "eval.seconds"),
    "ui": (["--port", "http"], "'http'"),
    "page": (["no_such_run"], "no_such_run"),
    "compare": (["no_such_run", "no_such_run"], "no_such_run"),
    "score": (["no_such_run"], "no_such_run"),
    "export": (["no_such_run", "--format", "coco"], "no_such_run"),
    "explain": (["no_such_run"], "no_such_run"),
    "prune": (["--cache", "no_such_cache"], "no_such_cache"),
    "choose configuration": (["no_such_sweep"], "no_such_sweep"),
    "device export": (["bundle", "policy=none"], "policy=none is unknown"),
    "device score": (["no_such_folder"], "no_such_folder"),
    "profile latency": (["repeats=0"], "repeats=0"),
    "profile samples": (["only=[nowhere]"], "only=['nowhere']"),
    "profile inference": (["--model", "vitdet_x"], "vitdet_x"),
    "profile fused": (["--points", "9"], "--points"),
    "profile restoration-points": (["--frames", "0"], "--frames"),
    "profile token-merging": (["--token-shares", "0"], "share of 0"),
    "profile precision": (["--precisions", "int3"], "'int3' is unknown"),
    "profile split-inference": (["--offloads", "0"], "--offloads must be at least 1, not 0"),
    "profile tracking": (["--starts", "0"], "--starts must be at least 1, not 0"),
    "profile filtering": (["--target", "2"], "--target 2.0"),
    "profile server-table": (["no_such_result.json"], "no_such_result.json"),
    "train detector": (["no_such_option=1"], "no_such_option"),
    "train masks": (["no_such_option=1"], "no_such_option"),
    "train estimators": (["no_such_option=1"], "no_such_option"),
    "train decay": (["no_such_result"], "no_such_result"),
    "train fetch-street": (["--mirror", "no_such_mirror"], "no_such_mirror"),
    "train traces": (["no_such_option=1"], "no_such_option"),
    "train install": (["no_such_result"], "no_such_result"),
    "train evaluate-detector": (["no_such_option=1"], "no_such_option"),
    "validate parity": (["no_such_prefix"], "no_such_prefix"),
    "validate clock-agreement": (["--repeats", "0"], "--repeats must be at least 1, not 0"),
    "validate multi-client": (["clock=virtual"], "clock=virtual has no server process"),
    "validate link": (["repeats=0"], "repeats"),
    "validate fuzz": (["--messages", "0"], "--messages"),
    "validate hostile": (["--floods", "0"], "--floods"),
    "validate reader-fuzz": (["no_such_reader"], "reader 'no_such_reader' is unknown"),
    "validate fault-injection": (["--target", "camera"], "--target camera is unknown"),
    "validate soak": (["video=file", "video.path=missing.mp4"], "missing.mp4"),
    "validate full-size": (["--seconds", "0"], "--seconds must be at least 1, not 0"),
    "validate benchmark": (["--repeats", "1"], "--repeats must be at least 2, not 1"),
    "validate inference-speed": (["--model", "vitdet_x"], "vitdet_x"),
    "validate virtual-speed": (["--repeats", "0"], "--repeats must be at least 1, not 0"),
    "validate library-baselines": (["--threads", "0"], "--threads"),
}
"""Arguments with a mistake for each job, and what the error line has to name."""


def run(monkeypatch: pytest.MonkeyPatch, name: str, *arguments: str) -> int:
    """Run a job in this process as the command line would; returns its exit status."""
    monkeypatch.setattr(sys, "argv", ["vitmalis", *name.split(), *arguments])
    try:
        return cli.main()
    except SystemExit as end:  # argparse
        return int(end.code or 0)


def test_every_job_has_a_case() -> None:
    assert list(MISTAKES) == list(cli.JOBS)


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_status_2_and_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    arguments, named = MISTAKES[name]
    assert run(monkeypatch, name, *arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert named in captured.err.splitlines()[-1]
    assert "Traceback" not in captured.err


def test_an_installation_without_the_jobs_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "vitmalis_jobs.evaluation.prune", raising=False)
    monkeypatch.setitem(sys.modules, "rich.table", None)  # as if it were not installed
    assert run(monkeypatch, "prune") == 2
    assert "has no module 'rich.table': pip install 'vitmalis[jobs]'" in capsys.readouterr().err
