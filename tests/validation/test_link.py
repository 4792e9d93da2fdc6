"""The link calibration on one small case, its exit statuses, and its comparison with Mahimahi's logs by hand.

Whether a link is accurate is decided by the job itself, on a quiet machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from vitmalis_jobs.validation.link import Case, LinkOptions, calibrate, median_by_size, percentiles
from vitmalis_jobs.validation.mahimahi_logs import predict_frames, predict_uploads

OTHER_CASES = ("const12", "const48", "const135", "varying_4g", "tcp_const12", "tcp_const135")
ONE_CASE = [f"~cases.{name}" for name in OTHER_CASES]
QUICK = [*ONE_CASE, "sizes_bytes=[1000]", "repeats=1", "pause_s=0"]


def test_one_case_is_measured_and_reported(tmp_path: Path) -> None:
    options = LinkOptions(
        sizes_bytes=[1000, 50_000],
        repeats=2,
        pause_s=0.0,
        seed=0,
        bar_ms=(-1e6, 1e6),
        cases={"small": Case(transport="tcp", trace={"kind": "constant", "mbps": 48, "rtt_ms": 10})},
        mahimahi_folder=str(tmp_path / "absent"),
    )
    result = json.loads(json.dumps(calibrate(options, tmp_path)))
    assert result["passed"] is True
    assert result["cases"]["small"]["uploads"] == 4
    assert set(result["cases"]["small"]["upload_median_ms"]) == {"1000", "50000"}
    assert result["cases"]["small"]["upload_median_ms"]["50000"] >= 13.0  # 35 segments at 4 a ms, 5 ms of propagation
    assert "mahimahi" not in result


def run_job(folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vitmalis_jobs.validation.link", *overrides]
    return subprocess.run(
        [*command, f"hydra.run.dir={folder}", f"mahimahi_folder={folder}/absent"],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def test_a_median_outside_the_bar_is_status_1(tmp_path: Path) -> None:
    done = run_job(tmp_path, *QUICK, "bar_ms=[1e6,2e6]")
    assert done.returncode == 1, done.stderr
    result = json.loads(done.stdout)
    assert result == json.loads((tmp_path / "result.json").read_text())
    assert (result["passed"], list(result["cases"])) == (False, ["const5"])


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ("cases.const5.transport=quic", "error: transport 'quic' is unknown: choose one of ideal, tcp"),
        ("cases.const5.trace.kind=wifi", "error: trace.kind is 'wifi'; choose cellular, constant or file"),
        ("repeats=0", "error: repeats=0: expected `int` >= 1"),
        ("repeat=1", "error: there is no option 'repeat'"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(tmp_path: Path, mistake: str, message: str) -> None:
    done = run_job(tmp_path, *ONE_CASE, mistake)
    assert done.returncode == 2
    assert done.stderr.startswith(message)
    assert len(done.stderr.splitlines()) == 1


def test_percentiles() -> None:
    assert percentiles([0.0, 10.0, 20.0]) == {"p5": 1.0, "p50": 10.0, "p95": 19.0}
    assert percentiles([3.0]) == {"p5": 3.0, "p50": 3.0, "p95": 3.0}


def test_medians_by_size() -> None:
    assert median_by_size([1, 2, 1, 1], [1.0, 5.0, 2.0, 9.0]) == {"1": 2.0, "2": 5.0}


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    (tmp_path / "one.trace").write_text("1\n")
    return tmp_path


def test_predictions_by_hand(traces: Path) -> None:
    """One segment a ms, 20 ms each way: 10 segments take 30 ms; an 11th waits for its acknowledgement only when new."""
    rows = pd.DataFrame(
        {
            "trace": "one.trace",
            "mode": ["fresh", "fresh"],
            "one_way_delay_ms": 20,
            "t_since_trace_start_ms": [0.0, 1000.5],
            "blob_bytes": [14_480, 14_481],
        }
    )
    assert predict_uploads(rows, traces, "ideal") == pytest.approx([30.0, 30.5])
    assert predict_uploads(rows, traces, "tcp") == pytest.approx([30.0, 63.5])
    assert predict_frames(rows, traces, "ideal") == pytest.approx([30.0, 30.5])
