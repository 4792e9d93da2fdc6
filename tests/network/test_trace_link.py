"""The traced link packet by packet: hand-computed cases, Mahimahi's loop, and departures that Mahimahi logged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from vitmalis.errors import UserError
from vitmalis.network.emulation.link import (
    HEADER_BYTES,
    OPPORTUNITY_BYTES,
    SEGMENT_BYTES,
    SegmentStream,
    TraceLink,
    wire_bytes,
)
from vitmalis.network.traces import Trace, constant_trace
from vitmalis.network.traces.opportunities import ListedOpportunities

FULL = OPPORTUNITY_BYTES


def listed_link(opportunities_ms: ArrayLike, period_ms: int | None = None) -> TraceLink:
    return TraceLink(ListedOpportunities(opportunities_ms), period_ms)


def departures(link: TraceLink, packets: list[tuple[int, int]]) -> list[int]:
    return [link.depart(arrival_ms, size) for arrival_ms, size in packets]


def test_a_full_packet_takes_one_opportunity() -> None:
    assert departures(listed_link([10, 20, 30]), [(0, FULL)] * 3) == [10, 20, 30]


def test_an_arrival_uses_only_later_milliseconds() -> None:
    link = listed_link([10, 20, 30])
    assert link.depart(10, 1) == 20
    assert listed_link([10, 20, 30]).depart(9.99, 1) == 10


def test_a_packet_departs_with_its_last_byte() -> None:
    assert departures(listed_link([10, 20, 30]), [(0, FULL + 1), (0, FULL - 1)]) == [20, 20]


def test_the_rest_of_an_opportunity_serves_a_queued_packet() -> None:
    assert departures(listed_link([10, 20]), [(0, 500), (9, 500), (9, 600)]) == [10, 10, 20]


def test_the_rest_of_an_opportunity_is_lost_without_a_queued_packet() -> None:
    assert departures(listed_link([10, 20]), [(0, 500), (10, 500)]) == [10, 20]


def test_unused_opportunities_are_lost() -> None:
    assert departures(listed_link([1, 2, 3, 4, 50]), [(4, FULL), (4, FULL)]) == [50, 51]


def test_several_opportunities_share_a_millisecond() -> None:
    assert departures(listed_link([5, 5, 5, 9]), [(0, FULL)] * 4) == [5, 5, 5, 9]


def test_the_trace_wraps_shifted_by_its_last_timestamp() -> None:
    assert departures(listed_link([3, 7]), [(0, FULL)] * 5) == [3, 7, 10, 14, 17]


def test_an_opportunity_at_zero_counts_from_the_second_lap() -> None:
    assert departures(listed_link([0, 4]), [(0, FULL)] * 3) == [4, 4, 8]


def test_a_period_may_end_after_the_last_opportunity() -> None:
    assert departures(listed_link([3, 7], period_ms=10), [(0, FULL)] * 3 + [(8, 1)]) == [3, 7, 13, 17]


def test_long_idle_gaps_cost_nothing() -> None:
    link = listed_link([1])
    assert link.depart(0, FULL) == 1
    assert link.depart(10**12, FULL) == 10**12 + 1


def test_goodput_is_the_share_of_payload() -> None:
    link = TraceLink.of(constant_trace(12.032, 0.0))  # one opportunity a millisecond
    assert link.upload(0.0, 1000 * SEGMENT_BYTES) == 1.0
    assert wire_bytes(1000 * SEGMENT_BYTES) == 1000 * OPPORTUNITY_BYTES


def test_of_keeps_the_period_of_the_trace() -> None:
    trace = Trace("outage at the end", np.array([0.0, 1.0]), np.array([12.032, 0.0]), np.zeros(2))
    link = TraceLink.of(trace)
    assert link.period_ms == 2000
    assert link.depart(1000, FULL) == 2001


@pytest.mark.parametrize(
    ("opportunities", "period", "message"),
    [
        ([], None, "no delivery opportunity"),
        ([5, 4], None, "non-decreasing"),
        ([-1, 4], None, "from 0"),
        ([0, 0], None, "last delivery opportunity is at 0 ms"),
        ([1, 9], 8, "lasts 8 ms but has an opportunity at 9 ms"),
    ],
)
def test_impossible_opportunities_are_refused(opportunities: list[int], period: int | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        listed_link(opportunities, period)


def mahimahi(opportunities: list[int], packets: list[tuple[int, int]]) -> list[int]:
    """Departures computed by the loop of Mahimahi's link queue: one opportunity after the other, byte by byte."""

    def forever() -> Iterator[int]:
        base = 0
        while True:
            yield from (base + at for at in opportunities)
            base += opportunities[-1]

    left = [size for _, size in packets]
    gone: list[int] = []
    for now in forever():
        budget = OPPORTUNITY_BYTES
        while budget and len(gone) < len(packets) and packets[len(gone)][0] < now:
            taken = min(budget, left[len(gone)])
            left[len(gone)] -= taken
            budget -= taken
            if not left[len(gone)]:
                gone.append(now)
        if len(gone) == len(packets):
            return gone
    return gone


opportunity_lists = (
    st.lists(st.integers(0, 40), min_size=1, max_size=30)
    .map(sorted)
    .filter(lambda times: times[-1] > 0)
)  # fmt: skip
packet_lists = st.lists(
    st.tuples(st.integers(0, 300), st.one_of(st.just(FULL), st.integers(1, 5000))), min_size=1, max_size=40
).map(lambda packets: sorted(packets, key=lambda packet: packet[0]))


@given(opportunity_lists, packet_lists)
def test_arithmetic_equals_mahimahis_loop(opportunities: list[int], packets: list[tuple[int, int]]) -> None:
    assert departures(listed_link(opportunities), packets) == mahimahi(opportunities, packets)


@given(opportunity_lists, st.lists(st.tuples(st.integers(0, 200), st.integers(1, 20_000)), min_size=1, max_size=8))
def test_a_message_takes_as_long_as_its_packets(opportunities: list[int], messages: list[tuple[int, int]]) -> None:
    whole, single, stream = (
        listed_link(opportunities),
        listed_link(opportunities),
        SegmentStream(listed_link(opportunities)),
    )
    for arrival_ms, payload in sorted(messages):
        sizes = [SEGMENT_BYTES + HEADER_BYTES] * (payload // SEGMENT_BYTES)
        sizes += [payload % SEGMENT_BYTES + HEADER_BYTES] if payload % SEGMENT_BYTES else []
        each = departures(single, [(arrival_ms, size) for size in sizes])
        assert whole.upload(arrival_ms / 1e3, payload) == pytest.approx(each[-1] / 1e3)
        assert max(entry.time_ms for entry in stream.send(arrival_ms, payload)) <= each[-1]


@given(opportunity_lists, st.integers(1, 30_000), st.lists(st.integers(1, 5000), max_size=20))
def test_small_pieces_of_a_message_cost_no_more_headers(
    opportunities: list[int], payload: int, cuts: list[int]
) -> None:
    """Pieces that arrive together leave as the whole message does, whatever their sizes."""
    whole = SegmentStream(listed_link(opportunities)).send(0, payload)
    stream = SegmentStream(listed_link(opportunities))
    pieces, left = [], payload
    for cut in cuts:
        pieces.append(min(cut, left - 1))
        left -= pieces[-1]
    parts = [entry for piece in [*pieces, left] if piece for entry in stream.send(0, piece)]
    assert parts[-1].time_ms == whole[-1].time_ms
    for entries in (whole, parts):
        assert sum(entry.payload_bytes for entry in entries) == payload
        assert sum(entry.segments for entry in entries) == -(-payload // SEGMENT_BYTES)
        assert [entry.time_ms for entry in entries] == sorted(entry.time_ms for entry in entries)


def test_a_segment_that_has_left_takes_no_more_bytes() -> None:
    stream = SegmentStream(listed_link([10, 20, 20, 30]))
    assert stream.send(0, 100) == [(10, 100, 1)]
    assert stream.send(10, SEGMENT_BYTES + 1) == [(20, SEGMENT_BYTES + 1, 2)]  # 1504 + 57 bytes: both at 20
    assert stream.send(10, SEGMENT_BYTES) == [(20, SEGMENT_BYTES - 1, 0), (30, 1, 1)]  # the second still waited


@pytest.mark.parametrize(("log", "trace"), [("const12", "const12"), ("vary", "vary")])
def test_equals_every_departure_that_mahimahi_logged(shared: Path, log: str, trace: str) -> None:
    folder = shared / "data" / "link"
    opportunities = np.loadtxt(folder / "traces" / f"{trace}.trace", dtype=np.int64, ndmin=1)
    packets = np.loadtxt(folder / f"golden_packets_{log}.csv", dtype=np.int64, delimiter=",", skiprows=2)
    assert len(packets) > 2000
    got = departures(listed_link(opportunities), packets[:, :2].tolist())
    assert got == packets[:, 2].tolist()
