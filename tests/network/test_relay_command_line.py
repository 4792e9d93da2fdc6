"""The relay's command line: signals, error messages, help, and its alias."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from vitmalis.network.traces import constant_trace, save_trace

PATIENCE_S = 30.0
FAST = constant_trace(100.0, 4.0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it_with_status_0(tmp_path: Path, number: signal.Signals) -> None:
    save_trace(FAST, tmp_path / "t.csv")
    options = ["--upstream", "127.0.0.1:9", "--trace", str(tmp_path / "t.csv")]
    process = subprocess.Popen(
        [sys.executable, "-m", "vitmalis.network.emulation", *options],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert "ready" in json.loads(process.stdout.readline())
    process.send_signal(number)
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert "Traceback" not in errors


def run_relay(*arguments: str) -> tuple[int, str]:
    """Run the relay until it exits; return its status and standard error."""
    command = [sys.executable, "-m", "vitmalis.network.emulation", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=PATIENCE_S)
    return done.returncode, done.stderr


def test_user_errors_are_one_line_and_status_2(tmp_path: Path) -> None:
    save_trace(FAST, tmp_path / "t.csv")
    (tmp_path / "bad.csv").write_text("time_s,uplink_mbps,rtt_ms\n0,-3,20\n")
    good = ["--upstream", "127.0.0.1:9", "--trace", str(tmp_path / "t.csv")]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        cases = [
            ([*good, "--listen", f"127.0.0.1:{port}"], f"cannot listen at 127.0.0.1:{port}"),
            (["--upstream", "127.0.0.1:9", "--trace", str(tmp_path / "bad.csv")], "row 1: uplink_mbps is negative"),
            (["--upstream", "nowhere", "--trace", str(tmp_path / "t.csv")], "'nowhere' cannot be used (it is not"),
            (["--upstream", "127.0.0.1:99999", "--trace", str(tmp_path / "t.csv")], "ports end at 65535"),
            ([*good, "--listen", "127.0.0.1:65536"], "ports end at 65535"),
            ([*good, "--queue-bytes", "5"], "--queue-bytes is 5: give at least"),
        ]
        for arguments, message in cases:
            status, errors = run_relay(*arguments)
            assert status == 2
            assert errors.startswith("error: ")
            assert message in errors
            assert len(errors.splitlines()) == 1


@pytest.mark.parametrize("module", ["vitmalis.network.emulation", "vitmalis.network.relay"])
def test_help_explains_the_options(module: str) -> None:
    command = [sys.executable, "-m", module, "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=True).stdout
    for word in ("--upstream", "--trace", "ideal", "trace's clock", '{"ready": address}'):
        assert word in " ".join(shown.split())
