from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from tests.training.synthetic_samples import ORIGIN
from vitmalis.estimation.estimators import FEATURES, Target
from vitmalis_jobs.training.estimation.baselines import fit_linear, fit_mean
from vitmalis_jobs.training.estimation.mlp import MlpHyperparameters, export, fit_mlp, network
from vitmalis_jobs.training.estimation.monotone import DIRECTIONS
from vitmalis_jobs.training.estimation.regression_metrics import RegressionMetrics
from vitmalis_jobs.training.estimation.sample_set import EVAL, FRAME, PROFILE, SampleSet, sample_set

WIDTH = len(FEATURES["f1"])


def rows_of(target: Target, features: np.ndarray, values: np.ndarray, **columns: np.ndarray) -> SampleSet:
    """Samples of one clip, each of a frame of its own."""
    n = len(values)
    given = {"weights": np.ones(n), "reference": np.zeros(n), **columns}
    return SampleSet(
        target=target, names=FEATURES[target], features=features, values=values,
        clips=np.full(n, "a"), parts=np.full(n, PROFILE),
        frame=np.arange(n), payload_bytes=np.ones(n), downsampled_share=np.zeros(n), **given,
    )  # fmt: skip


def test_linear_regression_recovers_a_linear_function() -> None:
    random = np.random.default_rng(0)
    features = random.normal(size=(50, 5)) * [1, 10, 0.1, 0.01, 8] + [1, 12, 0.5, 0.2, 85]
    slope = np.array([3.0, -2, 500, 70, 9])
    line = fit_linear(rows_of("payload_bytes", features, features @ slope + 1000), **ORIGIN)
    np.testing.assert_allclose(line.coefficients, slope, rtol=1e-8)
    assert line.intercept == pytest.approx(1000)


def test_linear_regression_is_weighted_least_squares_of_relative_values(samples: pd.DataFrame) -> None:
    rows = sample_set(samples, "f1")
    line = fit_linear(rows, **ORIGIN)
    fitted = rows.features @ line.coefficients + line.intercept
    # It leaves a residual that no feature explains, up to the level, which is that of the F1 itself.
    residual = (rows.relative - fitted) * rows.weights
    residual -= rows.weights * residual.sum() / rows.weights.sum()
    np.testing.assert_allclose(rows.features.T @ residual, 0, atol=1e-6)
    assert np.average(fitted, weights=rows.weights) == pytest.approx(np.average(rows.values, weights=rows.weights))


def test_the_offline_mean_of_a_payload_against_pandas(samples: pd.DataFrame) -> None:
    rows = sample_set(samples, "payload_bytes")
    kept = samples.drop_duplicates([*FRAME, "tau_d", "quality"])
    table = kept.groupby(["tau_d", "quality"])["payload_bytes"].transform("mean")
    np.testing.assert_allclose(fit_mean(rows, **ORIGIN).predict(rows.features), table)


def test_the_offline_mean_of_the_f1_by_hand() -> None:
    # Frame A with reference 1.0 and weight 1, frame B with reference 0.5 and weight 3; differences -0.1 and -0.3 of
    # (2, 70, 0): -(0.1 + 3 * 0.3) / 4 = -0.25. (2, 70, 4) was tried on frame A only, where it lost 0.05: less than
    # (2, 70, 0), which a later restoration cannot. The two share (4 * -0.25 + 1 * -0.05) / 5 = -0.21.
    table = np.array([[0, 95, 0], [2, 70, 0], [2, 70, 4], [0, 95, 0], [2, 70, 0]], np.float64)
    features = np.column_stack([table, np.zeros((5, WIDTH - 3))])
    values, reference = np.array([1.0, 0.9, 0.95, 0.5, 0.2]), np.array([1.0, 1.0, 1.0, 0.5, 0.5])
    weights = np.array([1.0, 1, 1, 3, 3])
    mean = fit_mean(rows_of("f1", features, values, reference=reference, weights=weights), **ORIGIN)
    level = (1 + 0.9 + 0.95 + 3 * 0.5 + 3 * 0.2) / 9 + 0.21 * 5 / 9  # the mean of all estimates is that of all F1
    np.testing.assert_allclose(mean.predict(features[:3]), [level, level - 0.21, level - 0.21], atol=1e-9)


MONOTONE = [DIRECTIONS.get(name, 0) for name in FEATURES["f1"]]
FREE = [0] * WIDTH


@pytest.mark.parametrize("widths", [(128, 64), (16,), (32, 256, 8)])
@pytest.mark.parametrize("output", ["identity", "log"])
@pytest.mark.parametrize("signs", [FREE, MONOTONE], ids=["free", "monotone"])
def test_numpy_computes_what_torch_does(widths: tuple[int, ...], output: str, signs: list[int]) -> None:
    torch.manual_seed(3)
    net = network(widths, 0.2, signs).eval()
    random = np.random.default_rng(0)
    mean, scale = random.normal(size=WIDTH) * 50, random.uniform(0.01, 20, size=WIDTH)
    rows = mean + scale * random.normal(size=(77, WIDTH))
    estimator = export(
        net, target="f1", features=FEATURES["f1"], mean=mean, scale=scale, output_mean=0.5, output_scale=0.02,
        output=output, **ORIGIN,
    )  # fmt: skip
    with torch.inference_mode():
        scaled = net(torch.from_numpy((rows - mean) / scale).float())[:, 0].double() * 0.02 + 0.5
    expected = (scaled.exp() if output == "log" else scaled).clamp(0, 1)
    np.testing.assert_allclose(estimator.predict(rows), expected, atol=1e-5)
    assert estimator.activation == ("tanh" if any(signs) else "relu")
    assert len([layer for layer in net if isinstance(layer, nn.Linear)]) == len(widths) + 1


def test_the_mlp_of_the_f1_is_monotone_whatever_it_learned(samples: pd.DataFrame) -> None:
    rows = sample_set(samples, "f1")
    against = dataclasses.replace(rows, values=1 - rows.values)  # samples that say the opposite
    estimator = fit_mlp(against, MlpHyperparameters(widths=(16, 8), epochs=3), 0, **ORIGIN)
    random = np.random.default_rng(1)
    some = rows.features[random.integers(0, len(rows), 200)]
    for name, direction in DIRECTIONS.items():
        more = some.copy()
        more[:, rows.names.index(name)] += random.uniform(0, 20, 200)
        assert ((estimator.predict(more) - estimator.predict(some)) * direction >= -1e-7).all(), name


def test_the_mean_of_the_estimates_is_that_of_the_values(samples: pd.DataFrame) -> None:
    rows = sample_set(samples, "f1")
    half = dataclasses.replace(rows, values=rows.values / 2, reference=rows.reference / 2)  # no estimate is clipped
    for estimator in (
        fit_mlp(half, MlpHyperparameters(widths=(8,), epochs=2), 0, **ORIGIN),
        fit_linear(half, **ORIGIN),
        fit_mean(half, **ORIGIN),
    ):
        estimate = np.average(estimator.predict(half.features), weights=half.weights)
        assert estimate == pytest.approx(np.average(half.values, weights=half.weights), abs=1e-6)


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
