from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional import mean_absolute_percentage_error, r2_score

from vitmalis_jobs.training.estimation.regression_metrics import RegressionMetrics


def test_metrics_by_hand() -> None:
    found = RegressionMetrics.of(np.array([0.0, 1.0, 2.0, 5.0]), np.array([1.0, 1.0, 4.0, 4.0]))
    assert (found.mae, found.rmse) == (1.0, pytest.approx(np.sqrt(1.5)))
    assert found.mape == pytest.approx(100 * (0 + 1 + 0.2) / 3)
    assert found.r2 == pytest.approx(1 - 6 / (4 + 1 + 0 + 9))
    assert found.bias == 0.5
    assert (found.samples, found.without_mape) == (4, 1)


def test_weights_count_samples_several_times() -> None:
    truth, estimate = np.array([0.5, 1.0, 0.75]), np.array([0.75, 0.5, 0.75])
    weighted = RegressionMetrics.of(truth, estimate, np.array([2.0, 1.0, 3.0]))
    repeated = RegressionMetrics.of(np.repeat(truth, [2, 1, 3]), np.repeat(estimate, [2, 1, 3]))
    for name in ("mae", "rmse", "mape", "r2", "bias"):
        assert getattr(weighted, name) == pytest.approx(getattr(repeated, name))


def test_metrics_where_the_truth_has_no_spread() -> None:
    found = RegressionMetrics.of(np.zeros(3), np.ones(3))
    assert (found.mae, found.without_mape) == (1.0, 3)
    assert np.isnan(found.r2)
    assert np.isnan(found.mape)


@given(st.lists(st.tuples(st.floats(0.1, 10), st.floats(-10, 10)), min_size=3).filter(lambda p: np.ptp(p, 0)[0] > 0.1))
def test_metrics_agree_with_torchmetrics(pairs: list[tuple[float, float]]) -> None:
    truth, estimate = np.array(pairs).T
    found, tensors = RegressionMetrics.of(truth, estimate), (torch.tensor(estimate), torch.tensor(truth))
    assert found.mape == pytest.approx(100 * float(mean_absolute_percentage_error(*tensors)), abs=1e-6)
    assert found.r2 == pytest.approx(float(r2_score(*tensors)), rel=1e-6, abs=1e-6)
