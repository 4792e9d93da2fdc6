from __future__ import annotations

from pathlib import Path

import numpy as np

from vitmalis.network.traces import constant_trace, load_trace
from vitmalis_jobs.run.trace_file import read_trace, write_trace


def test_a_trace_is_written_in_the_form_that_loses_nothing(tmp_path: Path) -> None:
    plain = constant_trace(8.0, 20.0)
    assert write_trace(plain, tmp_path).name == "trace.csv"
    (tmp_path / "mine").write_text("1\n3\n3\n10\n")
    exact = load_trace(tmp_path / "mine", rtt_ms=30.0)
    back = load_trace(write_trace(exact, tmp_path), rtt_ms=30.0)
    np.testing.assert_array_equal(back.delivery_opportunities_ms(), exact.delivery_opportunities_ms())


def test_a_run_finds_its_trace_again(tmp_path: Path) -> None:
    assert read_trace(tmp_path) is None
    played = constant_trace(8.0, 20.0)
    write_trace(played, tmp_path)
    back = read_trace(tmp_path)
    assert back is not None
    assert (back.uplink_mbps.tolist(), back.rtt_ms.tolist(), back.duration_s) == ([8.0], [20.0], played.duration_s)
