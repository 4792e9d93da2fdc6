"""Disturbance of real-time runs: inference compared with the quiet machine, and the words for it."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from tests.virtual.test_virtual_client import TABLES
from vitmalis.records import OffloadRecord
from vitmalis_jobs.common.machine_load import MachineLoad
from vitmalis_jobs.run.disturbance import Disturbance, busy_verdict
from vitmalis_jobs.run.quiet_time import slowdown


def offload(number: int, inference_s: float | None, status: str = "ok", decode_s: float | None = 0.0) -> OffloadRecord:
    return OffloadRecord(
        offload_id=number, frame_index=number, start_time_s=0.0, status=status, inference_s=inference_s,
        decode_s=decode_s, regions=6,
    )  # fmt: skip


def test_inference_is_compared_with_the_servers_processor_time() -> None:
    offloads = [offload(0, 0.5, decode_s=0.1), offload(1, 0.3, decode_s=None), offload(2, None, "lost")]
    assert slowdown(offloads, server_s=0.9) == pytest.approx(1.0)
    assert slowdown(offloads, server_s=0.45) == pytest.approx(2.0)
    assert slowdown(offloads) is None
    assert slowdown([offload(0, None, "lost")], server_s=0.5) is None


def test_inference_is_compared_with_the_tables_and_the_shorter_quiet_time_counts() -> None:
    full_s = float(TABLES.inference_s(0, 0))
    offloads = [offload(i, factor * full_s) for i, factor in enumerate((1.8, 2.0, 9.0))]  # one outlier
    assert slowdown(offloads, tables=TABLES) == pytest.approx(2.0)
    total_s = 12.8 * full_s
    assert slowdown(offloads, total_s / 1.1, TABLES) == pytest.approx(2.0)  # a lower clock frequency, say
    assert slowdown(offloads, total_s / 4.0, TABLES) == pytest.approx(4.0)


def test_an_offload_with_cached_regions_is_expected_to_be_faster() -> None:
    """At downsampling factor 2 a cached region saves as much as 4/3 low ones, here 0.03 s each."""
    (plain,) = TABLES.inference
    lines = (plain, msgspec.structs.replace(plain, restoration_point=1, slope_s=-0.03))
    tables = msgspec.structs.replace(TABLES, inference=lines)
    cached = replace(offload(0, 0.2 - 2 * 4 / 3 * 0.03), cached_regions=2, restoration_point=1)
    assert slowdown([cached], tables=tables) == pytest.approx(1.0)


def test_what_was_not_profiled_is_not_compared_with_tables() -> None:
    smaller = replace(offload(0, 1.0), frame_downsampling=7)
    assert slowdown([smaller], tables=TABLES) is None
    assert slowdown([smaller], server_s=0.5, tables=TABLES) == 2.0


@pytest.mark.parametrize(("slow", "reasons"), [(None, 0), (1.49, 0), (1.5, 1)])
def test_a_slow_machine_is_named_without_other_programs(slow: float | None, reasons: int) -> None:
    found = Disturbance(MachineLoad(0.1, 0.0), slow)
    assert len(found.reasons) == reasons
    assert found.metrics.get("inference_slowdown") == slow
    assert found.metrics["other_load"] == 0.1


def test_the_verdict_names_reasons_and_the_way_out() -> None:
    reasons = Disturbance(MachineLoad(0.47), 2.1).reasons
    verdict = busy_verdict(reasons, virtual=False)
    assert "do not trust this result" in verdict
    assert "other programs took 47% of the processor time, and inference took 2.1 times as long" in verdict
    assert "clock=virtual" in verdict
    assert "clock=virtual" not in busy_verdict(reasons, virtual=True)
    assert "latency=paper_testbed" in busy_verdict(reasons, virtual=True)
