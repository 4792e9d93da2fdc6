"""What the fault job counts in the records of a run."""

from __future__ import annotations

from vitmalis.records import OffloadRecord
from vitmalis_jobs.run.processes import Played
from vitmalis_jobs.validation.fault_injection import _longest_gap_s, _unexplained


def offload(number: int, status: str = "ok", reason: str = "") -> OffloadRecord:
    return OffloadRecord(
        offload_id=number,
        frame_index=number,
        start_time_s=float(number),
        e2e_latency_s=0.5,
        status=status,
        reason=reason,
    )


def test_every_offload_must_be_accounted_for() -> None:
    whole = Played([], [offload(0), offload(1, "lost", "the server is gone"), offload(2)])
    assert _unexplained(whole) == 0
    assert _unexplained(Played([], [offload(0), offload(1, "lost"), offload(2)])) == 1
    assert _unexplained(Played([], [offload(0), offload(3)])) == 2
    assert _unexplained(Played([], [])) == 0


def test_the_longest_time_without_an_answer() -> None:
    played = Played([], [offload(0), offload(1, "lost", "gone"), offload(4), offload(5)])
    assert _longest_gap_s(played) == 4.0
    assert _longest_gap_s(Played([], [offload(0)])) == 0.0
