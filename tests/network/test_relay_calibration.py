"""The calibration job runs end to end, on one small case; what it measures is judged by the job, not here."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from omegaconf import OmegaConf

from vitmalis_jobs.validation.link import calibrate, median_by_size
from vitmalis_jobs.validation.mahimahi_logs import predict_frames, predict_uploads


def test_one_case_is_measured_and_reported(tmp_path: Path) -> None:
    case = {"transport": "tcp", "trace": {"kind": "constant", "mbps": 48, "rtt_ms": 10}}
    config = OmegaConf.create(
        {
            "sizes_bytes": [1000, 50_000],
            "repeats": 2,
            "pause_s": 0.0,
            "seed": 0,
            "bar_ms": [-1e6, 1e6],
            "cases": {"small": case},
            "mahimahi_folder": str(tmp_path / "absent"),
        }
    )
    result = json.loads(json.dumps(calibrate(config, tmp_path)))
    assert result["passed"] is True
    assert result["cases"]["small"]["uploads"] == 4
    assert set(result["cases"]["small"]["upload_median_ms"]) == {"1000", "50000"}
    assert result["cases"]["small"]["upload_median_ms"]["50000"] >= 13.0  # 35 segments at 4 a ms, 5 ms of propagation
    assert "mahimahi" not in result


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
