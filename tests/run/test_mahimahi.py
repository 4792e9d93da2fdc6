"""The client inside Mahimahi's shells; stand-ins for its two programs, which need a user who is not root."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.tiny_sweep import PROJECT, make_clip
from vitmalis.errors import UserError
from vitmalis.network.traces import constant_trace, load_trace
from vitmalis_jobs.run import mahimahi
from vitmalis_jobs.run.config import ServerOptions

DELAY = '#!/bin/sh\necho "delay $1" >> "$SAID"\nexport MAHIMAHI_BASE=127.0.0.1\nshift\nexec "$@"\n'
LINK = '#!/bin/sh\necho "link $(wc -l < "$1") $(wc -l < "$2") $3" >> "$SAID"\nshift 3\nexec "$@"\n'


def server(address: str = "tcp://0.0.0.0:0", *, spawn: bool = True) -> ServerOptions:
    return ServerOptions(spawn=spawn, address=address, keys=None, insecure=True, restart=True, threads=1)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programs that note their arguments and run the rest, as Mahimahi's do."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, script in (("mm-delay", DELAY), ("mm-link", LINK)):
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SAID", str(tmp_path / "said.txt"))
    return folder


def test_what_is_missing_is_said_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="mm-delay and mm-link not found; install Mahimahi"):
        mahimahi.check(server())


def test_a_server_must_be_seen_from_inside(tools: Path) -> None:
    mahimahi.check(server())
    mahimahi.check(server("tcp://127.0.0.1:0", spawn=False))  # the user's own affair
    with pytest.raises(UserError, match=r"cannot be reached; use server.address=tcp://0\.0\.0\.0:0"):
        mahimahi.check(server("tcp://127.0.0.1:0"))


def test_the_shells_get_the_same_trace(tmp_path: Path) -> None:
    trace = constant_trace(12.0, 31.0)
    command = mahimahi.shell(trace, tmp_path)
    assert command[:3] == ("mm-delay", "16", "mm-link")  # half of 31 ms, whole
    assert command[-1] == "--"
    back = load_trace(Path(command[3]), rtt_ms=31.0)
    np.testing.assert_array_equal(back.delivery_opportunities_ms(), trace.delivery_opportunities_ms())
    assert mahimahi.inside("tcp://0.0.0.0:77") == "tcp://$MAHIMAHI_BASE:77"
    assert mahimahi.inside("tcp://edge:77") == "tcp://edge:77"


def test_a_run_goes_through_both_shells(tools: Path, tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mp4")
    options = ["link=mahimahi", "trace=constant", "trace.mbps=8", "trace.rtt_ms=40", "hydra.run.dir=run"]
    options += ["server.address=tcp://0.0.0.0:0", "server.insecure=true", "output.video_seconds=0", "eval.seconds=1"]
    options += ["video=file", "video.path=clip.mp4", "model.max_width=320", "model.max_height=192"]
    command = [sys.executable, str(PROJECT / "evaluate.py"), *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    delay, link = (tmp_path / "said.txt").read_text().splitlines()
    assert delay == "delay 20"
    assert link.startswith("link ")
    assert link.endswith(f" {mahimahi.DOWNLINK_PER_MS} --")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["metrics"]["offloads"] >= 1
    assert "tcp://$MAHIMAHI_BASE:" in (tmp_path / "run" / "session.json").read_text()
