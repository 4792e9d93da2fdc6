from __future__ import annotations

import numpy as np
import pytest

from vitmalis.estimation import LatencyTables
from vitmalis.estimation.features import PAPER_ACCURACY_FEATURES
from vitmalis.regions.grid import RegionGrid
from vitmalis.virtual.testbed import paper_testbed
from vitmalis_jobs.training.estimation.regret import BUDGETS, UPLINKS_MBPS, decision_regret
from vitmalis_jobs.training.estimation.sample_set import EVAL, SampleSet


@pytest.fixture(scope="module")
def tables() -> LatencyTables:
    return paper_testbed("id", "vitdet_tiny", RegionGrid(960, 540, 5), 4)


def frame_of_three(weight: float, frame: int) -> SampleSet:
    """Full resolution in 90 kB and in 30 kB, and all regions downsampled in 10 kB: each faster than the one before."""
    configurations = np.array([[0, 95, 0], [0, 70, 0], [2, 70, 4]], np.float64)
    return SampleSet(
        target="f1", names=PAPER_ACCURACY_FEATURES,
        features=np.column_stack([configurations, np.zeros((3, 5))]), values=np.array([1.0, 0.9, 0.6]),
        weights=np.full(3, weight), reference=np.ones(3), clips=np.full(3, "a"), parts=np.full(3, EVAL),
        frame=np.full(3, frame), payload_bytes=np.array([9e4, 3e4, 1e4]), downsampled_share=np.array([0.0, 0, 1]),
    )  # fmt: skip


def test_regret_by_hand(tables: LatencyTables) -> None:
    rows = frame_of_three(1.0, 0)
    assert decision_regret(rows, rows.values, tables) == 0.0
    # Of three latencies the quartiles lie between the first two, at the second and between the last two: a budget
    # admits the fastest alone, or the two fastest, twice.
    assert BUDGETS == (0.25, 0.5, 0.75)
    wrong = decision_regret(rows, np.array([0.7, 0.8, 0.9]), tables)
    assert wrong == pytest.approx((0 + 0.3 + 0.3) / 3)
    # Equal estimates: the fastest is taken.
    assert decision_regret(rows, np.full(3, 0.9), tables) == pytest.approx(wrong)


def test_frames_count_by_their_boxes(tables: LatencyTables) -> None:
    few, many = frame_of_three(1.0, 0), frame_of_three(3.0, 1)
    columns = {
        name: np.concatenate([getattr(few, name), getattr(many, name)])
        for name in SampleSet.__dataclass_fields__
        if name not in ("target", "names")
    }
    both = SampleSet(target="f1", names=few.names, **columns)
    estimate = np.array([*few.values, 0.7, 0.8, 0.9])
    assert decision_regret(both, estimate, tables) == pytest.approx(0.2 * 3 / 4)
    assert len(UPLINKS_MBPS) == 4
