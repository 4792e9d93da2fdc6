"""Trace files, their checks, and Mahimahi's delivery opportunities by hand."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vitmalis.errors import UserError
from vitmalis.network.traces import (
    Trace,
    constant_trace,
    drawn_start_s,
    io,
    load_trace,
    resolve_trace,
    save_mahimahi,
    save_trace,
    typical_index,
)

HEADER = "time_s,uplink_mbps,rtt_ms\n"


def trace_of(*mbps: float, duration_s: float = 0.0) -> Trace:
    return Trace(
        "t", np.arange(len(mbps), dtype=float), np.array(mbps), np.arange(len(mbps)) + 10.0, duration_s=duration_s
    )


def write(folder: Path, text: str, name: str = "4g_07.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "4g_07.csv is empty"),
        (HEADER, "has a header but no rows"),
        ("time_s,uplink_mbps\n0,1\n", "column rtt_ms is missing (found time_s,uplink_mbps)"),
        (HEADER + "0,1,20\n1,-3.1,20\n", "row 2: uplink_mbps is negative (-3.1); give 0 for an outage"),
        (HEADER + "0,1,20\n1,2,-5\n", "row 2: rtt_ms is negative (-5)"),
        (HEADER + "0,nan,20\n", "row 1: uplink_mbps is not a finite number (nan)"),
        (HEADER + "0,1,inf\n", "row 1: rtt_ms is not a finite number (inf)"),
        (HEADER + "nan,1,20\n", "row 1: time_s is not a finite number (nan)"),
        (HEADER + "0,fast,20\n", "row 1: uplink_mbps is not a number (fast)"),
        (HEADER + "0,1,20\n1,2\n", "row 2: rtt_ms is not a number (empty)"),
        (HEADER + "0,1,20\n1,1,20\n1,1,20\n", "row 3: time_s does not come after the row before (1)"),
        (HEADER + "0,12000000,20\n", "row 1: uplink_mbps is above 2000 (1.2e+07); check the unit, it must be mbps"),
        (HEADER + "0,1,1e6\n", "row 1: rtt_ms is above 60000 (1e+06); check the unit, it must be ms"),
        (HEADER + "0,0,20\n1,0,20\n", "uplink_mbps is 0 in all 2 rows"),
        (HEADER + "0,1,20\n1,1,20\n0.5,,\n", "duration_s is 0.5 but its last row starts at 1"),
        (HEADER + "0,8,5,20\n1,9,5,20\n", "row 1 has more values than the header names; use points in numbers, as 8.5"),
        (HEADER + "0,1_0,20\n", "row 1: uplink_mbps is not a number (1_0)"),
        ("uplink_mbps," + HEADER + "9,0,1,20\n", "column uplink_mbps is there more than once"),
        (HEADER + "1700000000000,1,20\n", "row 1: time_s is 1.7e+12; check the unit, it must be s"),
        (HEADER + '0,1,20\n"1,1,20\n', "it is not a CSV (unexpected end of data)"),
        (HEADER + "0,1,20\n1,,\n2,1,20\n", "row 2: uplink_mbps is not a number (empty)"),
        (HEADER + "0,1,20\n,,\n", "row 2: time_s is not a number (empty)"),
        (HEADER + "0,5,40\n1e12,,\n", "lasts 1.16e+07 days, more than 7; cut the file"),
        (HEADER + "0,5,40\n1e300,5,40\n", "lasts 2.31e+295 days, more than 7; cut the file"),
        (HEADER + "0," + "8" * 200_000 + ",20\n", "line 2 has more than 1000 characters; this is no trace"),
    ],
)
def test_broken_csv_says_where(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        load_trace(write(tmp_path, text))
    assert message in str(caught.value)
    assert "4g_07" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1\n2.5\n", "row 2: '2.5' is not a whole millisecond"),
        ("1\n-2\n", "row 2: '-2' is not a whole millisecond"),
        ("1\n5\n4\n", "row 3: millisecond 4 comes after 5"),
        ("0\n0\n", "row 2: the last millisecond is 0"),
        ("\n\n", "is empty"),
    ],
)
def test_broken_mahimahi_says_where(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        load_trace(write(tmp_path, text, "up.trace"))
    assert message in str(caught.value)


def test_missing_and_binary_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.csv cannot be read"):
        load_trace(tmp_path / "nowhere.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(UserError, match=r"binary\.csv cannot be read"):
        load_trace(tmp_path / "binary.csv")


def test_times_count_from_the_first_row_and_columns_may_be_shuffled(tmp_path: Path) -> None:
    trace = load_trace(write(tmp_path, "\ufeffrtt_ms, uplink_mbps, time_s\n30, 5, 1000\n31, 6, 1002\n\n"))
    assert trace.time_s.tolist() == [0, 2]
    assert trace.uplink_mbps.tolist() == [5, 6]
    assert trace.rtt_ms.tolist() == [30, 31]
    assert trace.duration_s == 4


def test_rows_hold_until_the_next_and_wrap() -> None:
    trace = Trace("t", np.array([0.0, 1.0, 3.0]), np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0, 30.0]))
    assert trace.duration_s == 4.5  # steps of 1 and 2: the last row lasts 1.5
    assert [trace.uplink_mbps_at(t) for t in (0, 0.99, 1, 2.9, 3, 4.4, 4.5, 5.5, 9.0)] == [1, 1, 2, 2, 3, 3, 1, 2, 1]
    assert trace.rtt_ms_at(7.5) == 30
    assert trace.mean_mbps() == pytest.approx((1 * 1 + 2 * 2 + 3 * 1.5) / 4.5)


def test_twelve_mbps_gives_an_opportunity_every_1_0027_ms() -> None:
    # 12 Mbps is 1500 bytes a ms: 1504 k bytes are reached at 1504 k / 1500 ms, rounded up.
    opportunities = constant_trace(12, 20).delivery_opportunities_ms()
    assert opportunities[:3].tolist() == [2, 3, 4]  # 1.0027, 2.0053, 3.0080
    assert opportunities[373:376].tolist() == [375, 376, 378]  # 374.997, exactly 376 = 375 * 1504 / 1500, 377.003
    assert len(opportunities) == 12000  # 12.032 s * 1500 bytes a ms / 1504
    assert opportunities[-1] == 12032 == constant_trace(12, 20).period_ms


def test_opportunities_stop_in_an_outage_and_carry_bytes_over_it() -> None:
    # 1.504 Mbps is one opportunity every 8 ms; 1 s holds 125 of them. 6.016 Mbps is one every 2 ms.
    trace = trace_of(1.504, 0, 6.016)
    opportunities = trace.delivery_opportunities_ms()
    assert opportunities[:3].tolist() == [8, 16, 24]
    assert opportunities[124] == 1000
    assert opportunities[125:128].tolist() == [2002, 2004, 2006]
    assert len(opportunities) == 125 + 500
    # 1.4 opportunities before the outage: after it, at one a millisecond, the second is whole 0.6 ms later.
    carried = Trace("t", np.array([0, 0.0014, 0.01]), np.array([12.032, 0, 12.032]), np.ones(3), duration_s=0.012)
    assert carried.delivery_opportunities_ms().tolist() == [1, 11, 12]


def test_several_opportunities_share_a_millisecond() -> None:
    assert constant_trace(36.096, 0).delivery_opportunities_ms()[:7].tolist() == [1, 1, 1, 2, 2, 2, 3]


def test_a_rate_below_one_packet_a_period_is_refused() -> None:
    with pytest.raises(UserError, match=r"carries 125 bytes in 1 s"):
        trace_of(0.001).delivery_opportunities_ms()


def test_scaling_multiplies_the_rate_and_leaves_the_rest() -> None:
    trace = trace_of(1, 0, 4).scaled(0.4)
    assert trace.uplink_mbps.tolist() == [0.4, 0, 1.6]
    assert trace.rtt_ms.tolist() == [10, 11, 12]
    for wrong in (0, -1, float("nan"), float("inf")):
        with pytest.raises(UserError, match="capacity_scale"):
            trace.scaled(wrong)


def test_round_trip_times_are_scaled_by_themselves(tmp_path: Path) -> None:
    trace = trace_of(1, 0, 4).with_rtt_scaled(2)
    assert (trace.uplink_mbps.tolist(), trace.rtt_ms.tolist()) == ([1, 0, 4], [20, 22, 24])
    (tmp_path / "log").write_text("10\n20\n")
    listed = resolve_trace("file", path=tmp_path / "log", rtt_ms=40, rtt_scale=0.5)
    assert set(listed.rtt_ms) == {20}
    assert listed.delivery_opportunities_ms()[:2].tolist() == [10, 20]
    with pytest.raises(UserError, match="rtt_scale is -1"):
        trace.with_rtt_scaled(-1)


def test_starting_later_rotates_and_cuts_the_row() -> None:
    moved = trace_of(1, 2, 3).starting_at(1.25)
    assert moved.time_s.tolist() == [0, 0.75, 1.75, 2.75]
    assert moved.uplink_mbps.tolist() == [2, 3, 1, 2]
    assert moved.duration_s == 3
    assert trace_of(1, 2, 3).starting_at(1 + 1e-9).time_s.tolist() == pytest.approx([0, 1, 2])  # no sliver of a row
    assert trace_of(1, 2, 3).starting_at(1e-12).time_s.tolist() == [0, 1, 2]
    assert trace_of(1, 2, 3).starting_at(4).uplink_mbps.tolist() == [2, 3, 1]
    with pytest.raises(UserError, match="start_s is -1"):
        trace_of(1).starting_at(-1)


def test_names_tell_traces_of_a_study_apart(tmp_path: Path) -> None:
    (tmp_path / "4g").mkdir()
    measured = write(tmp_path / "4g", HEADER + "0,3,30\n1,5,50\n", "4g_07.csv")
    played = [
        resolve_trace("cellular", index=7),
        resolve_trace("cellular", index=7, seed=1),
        resolve_trace("cellular", index=7, source=str(tmp_path)),
        resolve_trace("cellular", index=7, source=str(tmp_path), seed=1),
        resolve_trace("file", path=measured),
    ]
    assert [trace.name for trace in played] == [
        *("4g_07", "4g_07_seed1", "measured_4g_07", "measured_4g_07_seed1", "4g_07"),
    ]
    assert played[2].uplink_mbps.tolist() == [3, 5]


def test_a_folder_of_files_is_counted_by_their_names(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder without files"):
        resolve_trace("file", path=tmp_path)
    write(tmp_path, HEADER + "0,3,30\n", "tram.csv")
    write(tmp_path, "1\n5\n", "bus.trace")
    write(tmp_path, "", ".hidden")
    assert [resolve_trace("file", path=tmp_path, index=index).name for index in (0, 1)] == ["bus", "tram"]
    for wrong in (2, -1, "typical"):
        with pytest.raises(UserError, match=f"trace.index is {wrong}; the folder .* has 2 traces, 0 to 1 by"):
            resolve_trace("file", path=tmp_path, index=wrong)
    assert resolve_trace("file", path=tmp_path / "tram.csv", index=5).name == "tram"


def test_a_start_is_drawn_from_the_seed_and_the_two_names_alone() -> None:
    trace, other = (resolve_trace("cellular", index=index) for index in (5, 6))
    start_s = drawn_start_s(trace, "walkS")
    assert start_s == 106, "on every machine"
    assert drawn_start_s(trace.scaled(0.25), "walkS") == start_s
    assert start_s not in (drawn_start_s(trace, "walkS", seed=1), drawn_start_s(other, "walkS"))
    drawn = [drawn_start_s(trace, f"clip{number}") for number in range(200)]
    assert all(start.is_integer() and 0 <= start < trace.duration_s for start in drawn)
    assert (min(drawn) < 30, max(drawn) >= 270) == (True, True), "anywhere in the trace"
    assert drawn_start_s(trace_of(1), "walkS") == 0


@settings(max_examples=40)
@given(
    mbps=hnp.arrays(np.float64, st.integers(1, 20), elements=st.floats(0, 200)).filter(lambda a: a.any()),
    start_s=st.floats(0, 50),
    moment_s=st.floats(0, 50),
)
def test_a_moved_trace_is_the_same_link_later(mbps: np.ndarray, start_s: float, moment_s: float) -> None:
    trace = trace_of(*mbps)
    moved = trace.starting_at(start_s)
    assert moved.mean_mbps() == pytest.approx(trace.mean_mbps())
    edge_s = (start_s + moment_s) % 1.0
    if 1e-5 < edge_s < 1 - 1e-5:  # at a row's edge rounding decides
        assert moved.uplink_mbps_at(moment_s) == trace.uplink_mbps_at(start_s + moment_s)


@settings(max_examples=40)
@given(
    mbps=hnp.arrays(np.float64, st.integers(1, 20), elements=st.floats(0, 200)).filter(lambda a: a.any()),
    start_s=st.floats(0, 20),
)
def test_csv_round_trip_is_exact(tmp_path_factory: pytest.TempPathFactory, mbps: np.ndarray, start_s: float) -> None:
    trace = trace_of(*mbps).starting_at(start_s)
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    save_trace(trace, path)
    again = load_trace(path)
    for column in ("time_s", "uplink_mbps", "rtt_ms"):
        assert np.array_equal(getattr(again, column), getattr(trace, column))
    assert again.duration_s == trace.duration_s


@settings(max_examples=40)
@given(stamps=st.lists(st.integers(0, 9000), min_size=1, max_size=200).map(sorted).filter(lambda s: s[-1] >= 2000))
def test_mahimahi_round_trip_is_exact(tmp_path_factory: pytest.TempPathFactory, stamps: list[int]) -> None:
    folder = tmp_path_factory.mktemp("mahimahi")
    first = load_trace(write(folder, "".join(f"{ms}\n" for ms in stamps), "up.trace"), rtt_ms=25)
    save_mahimahi(first, folder / "again.trace")
    again = load_trace(folder / "again.trace", rtt_ms=25)
    assert again.delivery_opportunities_ms().tolist() == stamps
    assert first.period_ms == again.period_ms == stamps[-1]
    assert first.rtt_ms_at(3) == 25
    assert first.mean_mbps() == pytest.approx(len(stamps) * 1504 * 8e-3 / stamps[-1])


def test_mahimahi_export_keeps_the_period(tmp_path: Path) -> None:
    trace = trace_of(1.504, 0)  # the last opportunity at 1000 ms, the period 2000 ms
    save_mahimahi(trace, tmp_path / "up.trace")
    lines = (tmp_path / "up.trace").read_text().split()
    assert lines[:2] == ["8", "16"]
    assert lines[-2:] == ["1000", "2000"]
    assert load_trace(tmp_path / "up.trace").period_ms == trace.period_ms


def test_a_short_mahimahi_period_is_repeated(tmp_path: Path) -> None:
    trace = load_trace(write(tmp_path, "1\n", "up.trace"))
    assert trace.delivery_opportunities_ms()[:3].tolist() == [1, 2, 3]
    assert trace.uplink_mbps.tolist() == pytest.approx([12.032, 12.032])


def test_exact_opportunities_are_thinned_and_moved(tmp_path: Path) -> None:
    trace = load_trace(write(tmp_path, "".join(f"{ms}\n" for ms in range(500, 4001, 500)), "up.trace"))
    assert trace.scaled(0.5).delivery_opportunities_ms().tolist() == [1000, 2000, 3000, 4000]
    assert trace.scaled(2).delivery_opportunities_ms().tolist() == [ms for ms in range(500, 4001, 500) for _ in (0, 1)]
    uneven = load_trace(write(tmp_path, "100\n700\n3000\n", "uneven.trace")).starting_at(0.8)
    assert uneven.delivery_opportunities_ms().tolist() == [2300, 2400, 3000]  # the clock starts after the one at 700


def test_arrays_cannot_be_changed_behind_the_checks() -> None:
    with pytest.raises(ValueError, match="read-only"):
        trace_of(1, 2).uplink_mbps[0] = -1


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"kind": "wifi"}, "trace.kind is 'wifi'; choose cellular, constant or file"),
        ({"kind": "cellular", "technology": "6g"}, "trace.technology is '6g'; choose one of 4g, 5g"),
        ({"kind": "cellular", "index": 30}, "trace.index is 30; there are 30 4g traces, 0 to 29"),
        ({"kind": "cellular", "index": -1}, "trace.index is -1"),
        (
            {"kind": "cellular", "index": "median"},
            "trace.index is median; there are 30 4g traces, 0 to 29, or",
        ),
        ({"kind": "cellular", "source": "no/such"}, "trace.source 'no/such' is not a folder"),
        ({"kind": "constant", "mbps": 0}, "uplink_mbps is 0 in all 1 rows"),
        ({"kind": "constant", "mbps": -1}, "uplink_mbps is negative (-1)"),
        ({"kind": "constant", "rtt_ms": -1}, "rtt_ms is negative (-1)"),
        ({"kind": "file", "path": "no/such.csv"}, "cannot be read"),
        ({"kind": "cellular", "seed": -1}, "trace.seed is -1"),
    ],
)
def test_a_wrong_choice_names_the_way_out(choice: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as caught:
        resolve_trace(**choice)  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_choices(tmp_path: Path) -> None:
    (tmp_path / "5g").mkdir()
    write(tmp_path / "5g", HEADER + "0,10,20\n1,30,20\n", "5g_29.csv")
    measured = resolve_trace("cellular", technology="5g", index=29, source=str(tmp_path), capacity_scale=0.5, start_s=1)
    assert (measured.name, measured.uplink_mbps.tolist()) == ("measured_5g_29", [15, 5])
    with pytest.raises(UserError, match=r"5g_28\.csv cannot be read"):
        resolve_trace("cellular", technology="5g", index=28, source=str(tmp_path))
    fixed = resolve_trace("constant", mbps=8, rtt_ms=30)
    assert (fixed.mean_mbps(), fixed.rtt_ms_at(5)) == (8, 30)
    own = resolve_trace("file", path=write(tmp_path, "500\n4000\n", "up.trace"), rtt_ms=33)
    assert own.rtt_ms_at(0) == 33


def test_the_typical_trace_is_that_of_the_median_mean(tmp_path: Path) -> None:
    (tmp_path / "4g").mkdir()
    for index, mbps in ((3, 40), (7, 10), (12, 25), (20, 30)):  # means; the median, 27.5, lies between 25 and 30
        write(tmp_path / "4g", f"{HEADER}0,{mbps - 5},20\n1,{mbps + 5},20\n", f"4g_{index:02d}.csv")
    assert resolve_trace("cellular", technology="4g", source=str(tmp_path)).name == "measured_4g_12"
    write(tmp_path / "4g", HEADER + "0,60,20\n", "4g_00.csv")
    assert typical_index("4g", str(tmp_path)) == 20
    with pytest.raises(UserError, match=r"holds no 5g trace, such as .*5g_00\.csv"):
        typical_index("5g", str(tmp_path))


def test_means_of_the_first_seconds() -> None:
    trace = Trace("t", np.array([0.0, 1.0, 3.0]), np.array([10.0, 20.0, 40.0]), np.array([30.0, 60.0, 90.0]), None, 4.0)
    assert trace.mean_mbps(2) == pytest.approx((10 + 20) / 2)
    assert trace.mean_rtt_ms(2.5) == pytest.approx((30 + 1.5 * 60) / 2.5)
    assert trace.mean_mbps() == trace.mean_mbps(4) == trace.mean_mbps(8) == pytest.approx((10 + 2 * 20 + 40) / 4)
    assert trace.mean_mbps(9) == pytest.approx((2 * 90 + 10) / 9), "it repeats after its end"


def test_measured_traces_load(shared: Path) -> None:
    for technology in ("4g", "5g"):
        for index in range(0, 30, 3):
            trace = resolve_trace(
                "cellular", technology=technology, index=index, source=str(shared / "data" / "traces")
            )
            assert len(trace) == trace.duration_s == 300
            carried_mbps = len(trace.delivery_opportunities_ms()) * 1504 * 8e-6 / 300
            assert carried_mbps == pytest.approx(trace.mean_mbps(), abs=5e-5)


def test_mahimahi_clock_time_is_counted_from_the_first_row(tmp_path: Path) -> None:
    relative, clock = tmp_path / "relative.up", tmp_path / "clock.up"
    stamps = [0, 500, 1000, 2500, 4000]
    relative.write_text("".join(f"{ms}\n" for ms in stamps))
    clock.write_text("".join(f"{1_700_000_000_000 + ms}\n" for ms in stamps))
    ours, theirs = load_trace(clock), load_trace(relative)
    assert ours.duration_s == 4.0
    assert ours.delivery_opportunities_ms().tolist() == theirs.delivery_opportunities_ms().tolist() == stamps
    assert ours.uplink_mbps.tolist() == theirs.uplink_mbps.tolist()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1\n1700000000000\n", "row 2: millisecond 1700000000000 is 19676 days after the start"),
        ("1700000000000\n", "row 1: the last millisecond is 0"),
        ("1\n" * 30_000, "has 6e\\+07 packets of 1504 bytes in a period"),
        ("1\n1000000000000000\n", "row 2: '1000000000000000' is not a whole millisecond"),
        ("1\n999999999999999\n", "row 2: millisecond 999999999999999 is 11574074 days after the start"),
        ("time_s,uplink_mbps,rtt_ms\n0,100,20\n1000000000,,\n", "lasts 1.16e\\+04 days, more than 7"),
        ("time_s,uplink_mbps,rtt_ms\n0,1000,20\n86400,,\n", "has 7.18e\\+09 packets"),  # as a list, for Mahimahi
    ],
)
def test_no_computation_follows_a_number_in_a_trace_without_a_bound(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / ("trace.csv" if "," in content else "trace.up")
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        load_trace(path).delivery_opportunities_ms()


def test_no_capacity_scale_exhausts_memory(tmp_path: Path) -> None:
    (tmp_path / "trace.up").write_text("1\n2000\n")
    for scale in (1e9, 1e300):
        with pytest.raises(UserError, match="packets of 1504 bytes in a period"):
            load_trace(tmp_path / "trace.up").scaled(scale)


def test_a_day_at_1_gbps_takes_no_memory() -> None:
    day = Trace("day", np.zeros(1), np.array([1000.0]), np.zeros(1), duration_s=86_400)
    tracemalloc.start()
    opportunities = day.opportunities()
    assert len(opportunities) == 86_400_000 * 125_000 // 1504
    assert opportunities.time_ms(0) == 1
    assert opportunities.time_ms(len(opportunities) - 1) == 86_400_000
    assert opportunities.passed(43_200_000) == 43_200_000 * 125_000 // 1504
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()


@settings(max_examples=60)
@given(
    mbps=hnp.arrays(np.float64, st.integers(1, 8), elements=st.floats(0, 200) | st.just(0.0)).filter(
        lambda a: a.sum() > 0.1
    ),
    duration_s=st.sampled_from([0.0, 8.0004, 9.7]),
)
def test_computed_opportunities_are_those_of_the_list(mbps: np.ndarray, duration_s: float) -> None:
    trace = trace_of(*mbps, duration_s=duration_s)
    computed, listed = trace.opportunities(), trace.delivery_opportunities_ms()
    some = range(0, len(listed), 1 + len(listed) // 200)
    assert [computed.time_ms(number) for number in some] == listed[some].tolist()
    times = range(0, trace.period_ms, 37)
    assert [computed.passed(ms) for ms in times] == np.searchsorted(listed, times, "right").tolist()


def test_a_file_without_end_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="line 1 has more than 1000 characters"):
        load_trace("/dev/zero")
    monkeypatch.setattr(io, "MAX_OPPORTUNITIES", 100)
    for line in ("\n", "5\n"):
        with pytest.raises(UserError, match="has more than 100 lines; cut the file"):
            load_trace(write(tmp_path, line * 101, "up.trace"))
    monkeypatch.setattr(io, "MAX_ROWS", 10)
    with pytest.raises(UserError, match="has more than 10 rows; cut the file"):
        load_trace(write(tmp_path, HEADER + "".join(f"{second},1,20\n" for second in range(11))))


def test_a_remainder_in_an_outage_is_no_opportunity() -> None:
    # Bytes that are short of a packet by rounding only, at the start of an outage that lasts to the end.
    trace = Trace("t", np.array([0.0, 1.0]), np.array([1.504 * 8 - 1e-9, 0.0]), np.zeros(2))
    assert trace.delivery_opportunities_ms()[-1] == trace.opportunities().time_ms(999) == 1000
    assert len(trace.opportunities()) == 1000
