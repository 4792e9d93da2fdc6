from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from tests.training.synthetic_samples import ORIGIN
from vitmalis.estimation.estimators import FEATURES
from vitmalis_jobs.training.estimation.baselines import fit_linear, fit_mean
from vitmalis_jobs.training.estimation.mlp import MlpHyperparameters, export, fit_mlp, network
from vitmalis_jobs.training.estimation.regression_metrics import RegressionMetrics
from vitmalis_jobs.training.estimation.sample_set import EVAL, PROFILE, SampleSet, sample_set


def test_linear_regression_recovers_a_linear_function() -> None:
    random = np.random.default_rng(0)
    features = random.normal(size=(50, 5)) * [1, 10, 0.1, 0.01, 8] + [1, 12, 0.5, 0.2, 85]
    slope = np.array([3.0, -2, 500, 70, 9])
    rows = SampleSet(
        "payload_bytes", features, features @ slope + 1000, np.full(50, "a"), np.full(50, PROFILE), np.arange(50)
    )
    line = fit_linear(rows, **ORIGIN)
    np.testing.assert_allclose(line.coefficients, slope, rtol=1e-8)
    assert line.intercept == pytest.approx(1000)


def test_linear_and_mean_against_pandas_and_polynomials(samples: pd.DataFrame) -> None:
    rows = sample_set(samples, "f1")
    table = samples.groupby(["tau_d", "quality", "restoration_point"])["f1"].transform("mean")
    np.testing.assert_allclose(fit_mean(rows, **ORIGIN).predict(rows.features), table)
    line = fit_linear(rows, **ORIGIN)
    residual = rows.values - (rows.features @ line.coefficients + line.intercept)
    # Least squares leave a residual that no feature explains.
    np.testing.assert_allclose(np.column_stack([rows.features, np.ones(len(rows))]).T @ residual, 0, atol=1e-6)


@pytest.mark.parametrize("widths", [(128, 64), (16,), (32, 256, 8)])
@pytest.mark.parametrize("output", ["identity", "log"])
def test_numpy_computes_what_torch_does(widths: tuple[int, ...], output: str) -> None:
    torch.manual_seed(3)
    net = network(8, widths, 0.2).eval()
    random = np.random.default_rng(0)
    mean, scale = random.normal(size=8) * 50, random.uniform(0.01, 20, size=8)
    rows = mean + scale * random.normal(size=(77, 8))
    estimator = export(
        net, target="f1", features=FEATURES["f1"], mean=mean, scale=scale, output_mean=0.5, output_scale=0.2,
        output=output, **ORIGIN,
    )  # fmt: skip
    with torch.inference_mode():
        scaled = net(torch.from_numpy((rows - mean) / scale).float())[:, 0].double() * 0.2 + 0.5
    expected = (scaled.exp() if output == "log" else scaled).clamp(0, 1)
    np.testing.assert_allclose(estimator.predict(rows), expected, atol=1e-5)
    assert len([layer for layer in net if isinstance(layer, nn.Linear)]) == len(widths) + 1


def test_an_mlp_learns_a_curve_that_a_line_cannot(samples: pd.DataFrame) -> None:
    rows = sample_set(samples, "payload_bytes")
    training, evaluation = rows.select(rows.parts == PROFILE), rows.select(rows.parts == EVAL)
    chosen = MlpHyperparameters(
        widths=(32, 16), epochs=120, batch=16, learning_rate=1e-2, log_target=True, input_noise=0.0
    )
    scores = {
        estimator.kind: RegressionMetrics.of(evaluation.values, estimator.predict(evaluation.features))
        for estimator in (
            fit_mlp(training, chosen, 0, **ORIGIN),
            fit_linear(training, **ORIGIN),
            fit_mean(training, **ORIGIN),
        )
    }
    assert scores["mlp"].r2 > 0.95
    for other in ("linear", "mean"):
        assert scores["mlp"].mae < scores[other].mae
        assert scores["mlp"].mape < scores[other].mape


def test_the_same_seed_makes_the_same_mlp(samples: pd.DataFrame) -> None:
    rows = sample_set(samples, "f1")
    chosen = MlpHyperparameters(widths=(8,), epochs=2, dropout=0.1)
    torch.manual_seed(1)
    first = fit_mlp(rows, chosen, 5, **ORIGIN).predict(rows.features)
    drawn = torch.rand(1)
    assert (fit_mlp(rows, chosen, 5, **ORIGIN).predict(rows.features) == first).all()
    assert (fit_mlp(rows, chosen, 6, **ORIGIN).predict(rows.features) != first).any()
    torch.manual_seed(1)
    assert torch.rand(1) == drawn  # training leaves the caller's generator alone
