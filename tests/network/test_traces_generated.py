"""The trace generator: equal traces on every machine, statistics as its parameters say, and fitting."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from vitmalis.errors import UserError
from vitmalis.network.traces import Trace, resolve_trace
from vitmalis.network.traces.generate import LENGTH_S, SwitchingModel, fitted_model, generate
from vitmalis_jobs.training.trace_model.comparison import BEGIN, END, write_table
from vitmalis_jobs.training.trace_model.em import fit_switching
from vitmalis_jobs.training.trace_model.trace_statistics import (
    lagged_correlation,
    longest_run,
    statistics_frame,
    trace_statistics,
)

ALL = tuple(itertools.product(("4g", "5g"), range(30)))


@pytest.fixture(scope="module")
def sixty() -> dict[str, list[Trace]]:
    return {t: [resolve_trace("cellular", technology=t, index=i) for i in range(30)] for t in ("4g", "5g")}


def switching(**changes: list) -> SwitchingModel:
    """Two regimes that never change into each other: 10 and 100, without noise."""
    log10 = float(np.log(10))
    calm = {
        "start": [0.0, 1.0], "transition": [[1.0, 0.0], [0.0, 1.0]], "intercept": [log10, 2 * log10],
        "slope": [0.0, 0.0], "spread": [0.0, 0.0], "level": [log10, 2 * log10], "level_spread": [0.0, 0.0],
        "lowest": [0.0, 0.0], "highest": [9.0, 9.0],
    }  # fmt: skip
    return SwitchingModel(**{**calm, **changes})


def test_the_typical_traces_of_both_technologies_are_two_links(sixty: dict[str, list[Trace]]) -> None:
    typical = {technology: resolve_trace("cellular", technology=technology) for technology in sixty}
    assert [trace.name for trace in typical.values()] == ["4g_18", "5g_10"]
    for technology, traces in sixty.items():
        means = [trace.mean_mbps() for trace in traces]
        distances = np.abs(means - np.median(means))
        assert abs(typical[technology].mean_mbps() - np.median(means)) == pytest.approx(distances.min())
    assert typical["4g"].mean_mbps() == pytest.approx(22.85, abs=0.01)
    assert typical["5g"].mean_mbps() == pytest.approx(38.57, abs=0.01)


@pytest.mark.parametrize(
    ("technology", "index", "uplink_mbps", "rtt_ms", "mean_mbps", "mean_rtt_ms"),
    [
        ("4g", 0, [31.425, 33.654, 40.82, 20.636], [32.003, 34.552, 33.817, 34.352], 8375.448 / 300, 10374.987 / 300),
        ("4g", 17, [12.325, 13.45, 41.902, 26.364], [35.541, 34.064, 34.622, 37.049], 8073.901 / 300, 10358.531 / 300),
        ("5g", 5, [32.564, 41.866, 130.35, 82.238], [58.553, 65.817, 51.303, 70.468], 37094.439 / 300, 13946.603 / 300),
        ("5g", 29, [19.905, 26.83, 26.238, 27.86], [32.73, 39.445, 31.391, 14.268], 13148.739 / 300, 8395.198 / 300),
    ],
)
def test_the_sixty_are_the_same_on_every_machine(
    technology: str, index: int, uplink_mbps: list[float], rtt_ms: list[float], mean_mbps: float, mean_rtt_ms: float
) -> None:
    # Written down when the parameters were fitted; a new fit changes them, nothing else may. 0.001 is the rounding.
    series = generate(technology, index)
    assert series.uplink_mbps[[0, 1, 150, 299]] == pytest.approx(uplink_mbps, abs=1.1e-3)
    assert series.rtt_ms[[0, 1, 150, 299]] == pytest.approx(rtt_ms, abs=1.1e-3)
    assert series.uplink_mbps.mean() == pytest.approx(mean_mbps, abs=1e-3)
    assert series.rtt_ms.mean() == pytest.approx(mean_rtt_ms, abs=1e-3)


def test_each_trace_differs_and_another_seed_is_another_set() -> None:
    rates = {generate(t, i, seed=seed).uplink_mbps.tobytes() for seed in (0, 1) for t, i in ALL}
    assert len(rates) == 120


def test_the_mobility_mix_is_the_measured_one() -> None:
    mix = {t: Counter(generate(t, i).mobility for i in range(30)) for t in ("4g", "5g")}
    assert mix == {"4g": {"driving": 29, "static": 1}, "5g": {"driving": 23, "walking": 3, "static": 4}}


def test_rows_are_what_a_link_can_have(sixty: dict[str, list[Trace]]) -> None:
    for traces in sixty.values():
        for trace in traces:
            assert len(trace) == trace.duration_s == LENGTH_S
            assert np.array_equal(trace.uplink_mbps, trace.uplink_mbps.round(3))
            assert trace.rtt_ms.min() > 3


@pytest.mark.parametrize("technology", ["4g", "5g"])
def test_means_cover_the_fitted_range(sixty: dict[str, list[Trace]], technology: str) -> None:
    groups = fitted_model().technologies[technology]
    means = sorted(trace.mean_mbps() for trace in sixty[technology])
    assert means[0] == pytest.approx(min(group.mean_mbps[0] for group in groups), rel=0.02)
    # A trace whose highest seconds are held at the ceiling falls a little short.
    assert means[-1] == pytest.approx(max(group.mean_mbps[-1] for group in groups), rel=0.05)
    expected = sum(group.traces * np.mean(group.mean_mbps) for group in groups) / 30
    assert np.mean(means) == pytest.approx(expected, rel=0.05)
    rtt = sum(group.traces * np.mean(group.mean_rtt_ms) for group in groups) / 30
    assert np.mean([trace.rtt_ms.mean() for trace in sixty[technology]]) == pytest.approx(rtt, rel=0.05)


# Bands around the measured statistics (docs/traces.md) as wide as twenty other seeds reach.
@pytest.mark.parametrize(
    ("technology", "statistic", "low", "high"),
    [
        ("4g", "cv", 0.45, 0.62), ("4g", "lag1", 0.88, 0.95), ("4g", "weak_percent", 1.0, 5.0),
        ("4g", "halving_percent", 1.0, 2.2), ("4g", "rtt_median_ms", 36, 40), ("4g", "rtt_p99_ms", 54, 68),
        ("5g", "cv", 0.55, 0.72), ("5g", "lag1", 0.80, 0.92), ("5g", "weak_percent", 0.5, 2.0),
        ("5g", "halving_percent", 2.8, 4.5), ("5g", "rtt_median_ms", 33, 36), ("5g", "rtt_p99_ms", 60, 75),
    ],
)  # fmt: skip
def test_statistics_stay_near_the_measured_ones(
    sixty: dict[str, list[Trace]], technology: str, statistic: str, low: float, high: float
) -> None:
    assert low < statistics_frame(sixty[technology])[statistic].mean() < high


def test_measured_statistics_lie_in_the_same_bands(shared: Path) -> None:
    for technology, cv, halving in (("4g", (0.45, 0.62), (1.0, 2.2)), ("5g", (0.55, 0.72), (2.8, 4.5))):
        folder = str(shared / "data" / "traces")
        measured = statistics_frame(
            [resolve_trace("cellular", technology=technology, index=i, source=folder) for i in range(30)]
        )
        assert cv[0] < measured["cv"].mean() < cv[1]
        assert halving[0] < measured["halving_percent"].mean() < halving[1]


def test_fitted_numbers_are_sound() -> None:
    for groups in fitted_model().technologies.values():
        assert sum(group.traces for group in groups) == 30
        for model in [m for group in groups for m in (group.uplink, group.rtt)]:
            assert np.sum(model.start) == pytest.approx(1, abs=1e-3)
            assert np.sum(model.transition, axis=1) == pytest.approx(1, abs=1e-3)
            assert 0 <= min(model.slope) <= max(model.slope) < 1
            assert np.all(np.array(model.lowest) < np.array(model.highest))


def test_a_model_without_noise_stays_where_it_starts() -> None:
    assert switching().sample(np.random.default_rng(0), 3, 5) == pytest.approx(np.full((3, 5), 100.0))
    falling = switching(slope=[0.0, 0.5], intercept=[0.0, 0.0])  # log x halves each second: 100, 10, sqrt(10)
    assert falling.sample(np.random.default_rng(0), 1, 3)[0] == pytest.approx([100, 10, 10**0.5])
    held = switching(slope=[0.0, 0.5], intercept=[0.0, 0.0], lowest=[0.0, float(np.log(20))])
    assert held.sample(np.random.default_rng(0), 1, 3)[0] == pytest.approx([100, 20, 20])
    swapping = switching(transition=[[0.0, 1.0], [1.0, 0.0]])
    assert swapping.sample(np.random.default_rng(0), 1, 4)[0] == pytest.approx([100, 10, 100, 10])


def test_fitting_finds_the_model_that_made_the_data() -> None:
    truth = switching(
        start=[0.5, 0.5], transition=[[0.95, 0.05], [0.1, 0.9]], slope=[0.8, 0.3],
        intercept=[0.2 * np.log(10), 0.7 * np.log(100)], spread=[0.1, 0.2], level_spread=[0.17, 0.2],
    )  # fmt: skip
    series = truth.sample(np.random.default_rng(1), 20, 300)
    found, likelihood = fit_switching(series, regimes=2, max_slope=0.95, restarts=2, iterations=60, seed=0)
    order = np.argsort(found.spread)
    assert np.array(found.spread)[order] == pytest.approx([0.1, 0.2], rel=0.1)
    assert np.array(found.slope)[order] == pytest.approx([0.8, 0.3], abs=0.06)
    assert np.array(found.transition)[order][:, order] == pytest.approx(np.array(truth.transition), abs=0.03)
    assert likelihood > fit_switching(series, regimes=1, max_slope=0.95, restarts=1, iterations=10, seed=0)[1]


def test_statistics_by_hand() -> None:
    rate = np.array([4.0, 1.9, 0.5, 0.4, 2.0, 0.9, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0])
    found = trace_statistics(Trace("t", np.arange(13.0), rate, np.arange(10.0, 140.0, 10.0)))
    assert found["mean_mbps"] == pytest.approx(37.7 / 13)
    assert found["weak_percent"] == pytest.approx(300 / 13)  # 0.5, 0.4, 0.9
    assert found["halving_percent"] == pytest.approx(300 / 12)  # 4 to 1.9, 1.9 to 0.5, 2 to 0.9
    assert found["longest_weak_s"] == 2
    assert found["rtt_median_ms"] == found["rtt_mean_ms"] == 70
    assert found["rtt_p99_ms"] == pytest.approx(128.8)
    assert found["rtt_lag1"] == pytest.approx(1)
    assert longest_run(np.zeros(3, bool)) == 0
    assert longest_run(np.ones(3, bool)) == 3
    assert lagged_correlation(np.array([1.0, -1, 1, -1, 1]), 1) == pytest.approx(-1)
    assert lagged_correlation(np.ones(5), 1) == 0


def test_the_page_is_only_changed_between_its_markers(tmp_path: Path, sixty: dict[str, list[Trace]]) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_table(page, sixty, {0: sixty})
    text = page.read_text()
    assert text.startswith(f"before\n{BEGIN}\n\n| 4G | measured | generated |")
    assert text.endswith(f"{END}\nafter\n")
    assert "old" not in text
    page.write_text("no markers")
    with pytest.raises(UserError, match="needs the lines"):
        write_table(page, sixty, {0: sixty})
