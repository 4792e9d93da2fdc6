"""Statistics of a study by hand."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from vitmalis_jobs.evaluation.study.statistics import (
    by_pair,
    difference,
    gap_closed,
    incomplete_pairs,
    mean_interval,
    median_reduction,
    undefined_pairs,
)
from vitmalis_jobs.evaluation.study.tables import compared


def runs(values: dict[str, list[float]], metric: str = "rendering_f1") -> pd.DataFrame:
    rows = [
        {"policy": policy, "clip": f"c{pair}", "trace": "t", "frames": 10.0, metric: value}
        for policy, column in values.items()
        for pair, value in enumerate(column)
    ]
    return pd.DataFrame(rows)


def test_only_pairs_that_all_have_are_compared() -> None:
    table = by_pair(runs({"trackb2b": [0.5, 0.6, 0.7], "vitmalis": [0.6, 0.8]}), "rendering_f1")
    assert table["trackb2b"].tolist() == [0.5, 0.6]
    assert incomplete_pairs(runs({"trackb2b": [0.5, 0.6, 0.7], "vitmalis": [0.6, 0.8]})) == 1


def test_all_are_compared_with_the_baselines_and_ours_with_all() -> None:
    assert compared(["trackb2b", "trackud", "fixed", "freshness", "vitmalis"]) == [
        *((policy, "trackb2b") for policy in ("trackud", "fixed", "freshness", "vitmalis")),
        *((policy, "fixed") for policy in ("trackud", "freshness", "vitmalis")),
        *(("vitmalis", policy) for policy in ("trackud", "freshness")),
    ]
    assert compared(["fixed", "freshness"]) == [("freshness", "fixed")]
    assert compared(["vitmalis", "wo_mlps"]) == [("vitmalis", "wo_mlps")]


def test_pairs_without_a_value_are_left_out() -> None:
    table = by_pair(runs({"trackb2b": [0.5, math.nan], "vitmalis": [0.6, math.nan]}), "rendering_f1")
    assert table["vitmalis"].tolist() == [0.6]
    none = by_pair(runs({"vitmalis": [0.6]}), "inference_f1")
    assert (none.empty, list(none), math.isnan(none["vitmalis"].median())) == (True, ["vitmalis"], True)
    assert undefined_pairs(runs({"trackb2b": [0.5, math.nan], "vitmalis": [0.6, math.nan]})) == 1


def test_nothing_is_saved_of_nothing() -> None:
    nothing = by_pair(runs({"trackb2b": [0.0, 0.0], "vitmalis": [0.0, 0.0]}, "network_s_median"), "network_s_median")
    for table in (nothing, nothing.iloc[:0]):
        assert np.isnan(median_reduction(table, "vitmalis", "trackb2b")).all()


def test_a_difference_by_hand() -> None:
    table = by_pair(runs({"a": [0.6, 0.7, 0.8, 0.9, 0.5, 0.6], "b": [0.5, 0.5, 0.5, 0.5, 0.5, 0.5]}), "rendering_f1")
    found = difference(table, "a", "b")
    assert (found.pairs, found.mean, found.higher) == (6, pytest.approx(1.1 / 6), pytest.approx(5 / 6))
    assert 0 < found.low < found.mean < found.high < 0.4
    assert found.verdict == "higher"
    assert difference(table, "b", "a").verdict == "lower"
    assert difference(table, "a", "b") == found  # seeded


def test_noise_around_zero_is_not_significant() -> None:
    table = by_pair(runs({"a": [0.6, 0.4, 0.55, 0.45, 0.52, 0.48], "b": [0.5] * 6}), "rendering_f1")
    assert difference(table, "a", "b").verdict.startswith("not significant")


def test_pairs_of_one_clip_are_no_independent_samples_of_clips() -> None:
    gains = {"c0": 0.5, "c1": 0.4, "c2": -0.1, "c3": -0.1, "c4": -0.05}  # two clips of five gain, on all their traces
    rows = [
        {"policy": policy, "clip": clip, "trace": f"t{trace}", "rendering_f1": 0.4 + (gain if policy == "a" else 0)}
        for clip, gain in gains.items()
        for trace in range(12)
        for policy in "ab"
    ]
    found = difference(by_pair(pd.DataFrame(rows), "rendering_f1"), "a", "b")
    assert (found.pairs, found.clips, found.mean) == (60, 5, pytest.approx(0.13))
    assert found.low > 0 > found.clips_low
    assert found.verdict == "higher on these clips; over clips the interval holds 0"


def test_few_pairs_have_no_interval_and_equal_ones_no_width() -> None:
    assert all(map(math.isnan, mean_interval(np.array([0.1, 0.2]))))
    assert (
        difference(by_pair(runs({"a": [1.0], "b": [0.0]}), "rendering_f1"), "a", "b").verdict
        == "too few for an interval: 1 pair"
    )
    assert mean_interval(np.full(8, 0.25)) == (0.25, 0.25)


def test_a_reduction_is_one_of_medians() -> None:
    table = by_pair(runs({"a": [1, 2, 3, 4, 9], "b": [6, 6, 6, 6, 6]}, "ms"), "ms")
    value, low, high = median_reduction(table, "a", "b")
    assert value == pytest.approx(50.0)
    assert low <= value <= high


def test_the_share_of_the_oracles_gap() -> None:
    table = by_pair(runs({"trackb2b": [0.4, 0.6], "oracle": [0.8, 0.8], "vitmalis": [0.5, 0.7]}), "rendering_f1")
    assert gap_closed(table, "vitmalis", "trackb2b", "oracle")[0] == pytest.approx(0.1 / 0.3)
    assert gap_closed(table, "oracle", "trackb2b", "oracle")[0] == pytest.approx(1.0)
    assert all(map(math.isnan, gap_closed(table, "vitmalis", "trackb2b", "oracle")[1:])), "two pairs"
    assert math.isnan(gap_closed(table, "vitmalis", "oracle", "trackb2b")[0])
    many = {"trackb2b": [0.5] * 6, "oracle": [0.7, 0.8, 0.6, 0.7, 0.8, 0.6], "vitmalis": [0.6, 0.6, 0.6, 0.5, 0.6, 0.6]}
    value, low, high = gap_closed(by_pair(runs(many), "rendering_f1"), "vitmalis", "trackb2b", "oracle")
    assert value == pytest.approx(0.5 / 1.2)
    assert low < value < high
