from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitmalis.estimation import SizeCorrection

RATIOS = st.lists(st.floats(0.34, 2.9), min_size=1, max_size=20)


def test_the_last_offload_by_hand() -> None:
    correction = SizeCorrection()
    assert correction.factor == 1
    correction.observe(60_000, 90_000)
    assert correction.factor == pytest.approx(1.5)
    correction.observe(60_000, 30_000)
    assert correction.factor == pytest.approx(0.5)
    correction.observe(1_000, 90_000)
    assert correction.factor == pytest.approx(3)


def test_a_running_mean_by_hand() -> None:
    correction = SizeCorrection(weight=0.5, largest=16)
    correction.observe(10, 160)
    assert correction.factor == pytest.approx(4)
    correction.observe(10, 10)
    assert correction.factor == pytest.approx(2)


@given(RATIOS, st.floats(0, 1))
def test_the_factor_stays_among_what_was_seen(ratios: list[float], weight: float) -> None:
    correction = SizeCorrection(weight)
    for ratio in ratios:
        correction.observe(1000, 1000 * ratio)
    assert min(1, *ratios, 1) * 0.999 <= correction.factor <= max(1, *ratios, 1) * 1.001
    if weight == 0:
        assert correction.factor == 1


@pytest.mark.parametrize("options", [{"weight": -0.1}, {"weight": 1.1}, {"largest": 0.5}, {"weight": float("nan")}])
def test_options_that_make_no_sense(options: dict) -> None:
    with pytest.raises(ValueError, match="must be in"):
        SizeCorrection(**options)
