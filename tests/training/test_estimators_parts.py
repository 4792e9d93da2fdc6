from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torchmetrics.functional import mean_absolute_percentage_error, r2_score

from vitmalis.errors import UserError
from vitmalis.estimation.estimators import FEATURES
from vitmalis_jobs.training.estimation.baselines import check_covered, fit_linear, fit_mean
from vitmalis_jobs.training.estimation.mlp import MlpPlan, export, fit_mlp, network
from vitmalis_jobs.training.estimation.samples import (
    COLUMNS,
    EVAL,
    PROFILE,
    SampleSet,
    read_samples,
    sample_set,
    time_folds,
)
from vitmalis_jobs.training.estimation.scores import Scores
from vitmalis_jobs.training.estimation.search import SearchPlan, search_mlp
from vitmalis_jobs.training.estimation.splits import corrected, splits
from vitmalis_jobs.training.estimation.tables import Result, markdown, metrics

ORIGIN = {"model": "small", "model_id": "one"}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def made_samples(clips: tuple[str, ...] = ("walkA", "walkB", "driveA"), frames: int = 6, seed: int = 0) -> pd.DataFrame:
    """Samples whose size and F1 are known functions of the features, curved ones."""
    random = np.random.default_rng(seed)
    rows = []
    for clip in clips:
        for part in (PROFILE, EVAL):
            for frame in range(frames):
                motion, downsampled, relevance = random.uniform(0.05, 0.5), random.uniform(0, 1), random.uniform(0, 0.4)
                for tau, quality, point in [(0, 70, 0), (0, 95, 0), (2, 70, 0), (2, 70, 4), (2, 95, 0), (2, 95, 4)]:
                    moving = downsampled if tau else 0.0
                    payload = 2e4 * np.exp(3 * motion + (quality - 70) / 20) * (1 - 0.7 * moving)
                    f1 = np.clip(1 - 0.6 * moving * relevance * (1 + point), 0, 1)
                    content = (9 * (tau > 0), moving, motion, relevance, relevance / 2)
                    rows.append((clip, part, frame, tau, quality, point, *content, int(payload), f1))
    return pd.DataFrame(rows, columns=list(COLUMNS))


@pytest.fixture(scope="module")
def samples() -> pd.DataFrame:
    return made_samples()


def test_scores_by_hand() -> None:
    scores = Scores.of(np.array([0.0, 1.0, 2.0, 5.0]), np.array([1.0, 1.0, 4.0, 4.0]))
    assert (scores.mae, scores.rmse) == (1.0, pytest.approx(np.sqrt(1.5)))
    assert scores.mape == pytest.approx(100 * (0 + 1 + 0.2) / 3)
    assert scores.r2 == pytest.approx(1 - 6 / (4 + 1 + 0 + 9))
    assert (scores.samples, scores.without_mape) == (4, 1)


def test_scores_where_the_truth_has_no_spread() -> None:
    scores = Scores.of(np.zeros(3), np.ones(3))
    assert (scores.mae, scores.without_mape) == (1.0, 3)
    assert np.isnan(scores.r2)
    assert np.isnan(scores.mape)


@given(st.lists(st.tuples(st.floats(0.1, 10), st.floats(-10, 10)), min_size=3).filter(lambda p: np.ptp(p, 0)[0] > 0.1))
def test_scores_agree_with_torchmetrics(pairs: list[tuple[float, float]]) -> None:
    truth, estimate = np.array(pairs).T
    scores, tensors = Scores.of(truth, estimate), (torch.tensor(estimate), torch.tensor(truth))
    assert scores.mape == pytest.approx(100 * float(mean_absolute_percentage_error(*tensors)), abs=1e-6)
    assert scores.r2 == pytest.approx(float(r2_score(*tensors)), rel=1e-6, abs=1e-6)


def test_samples_from_files(samples: pd.DataFrame, tmp_path: Path) -> None:
    for clip, table in samples.sample(frac=1, random_state=0).groupby("clip"):
        table.assign(objects=3).to_parquet(tmp_path / f"{clip}.parquet")
    read = read_samples(tmp_path)
    assert len(read) == len(samples)
    assert read["clip"].is_monotonic_increasing
    size, accuracy = sample_set(read, "payload_bytes"), sample_set(read, "f1")
    assert (len(size), len(accuracy)) == (3 * 2 * 6 * 4, 3 * 2 * 6 * 6)  # a size at both points counts once
    assert size.features.shape == (len(size), 5)
    assert accuracy.features.shape == (len(accuracy), 8)
    assert size.frames == accuracy.frames == 36


def test_samples_that_cannot_be_used(samples: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no samples .*profiling\.samples"):
        read_samples(tmp_path)
    samples.drop(columns="part").to_parquet(tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"a\.parquet lacks part"):
        read_samples(tmp_path)
    samples.assign(f1=samples["f1"].where(samples["frame_index"] != 3)).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(UserError, match="clip 'walkA' has a sample that is not a number"):
        read_samples(tmp_path)


@given(folds=st.integers(2, 6), seed=st.integers(0, 20))
def test_folds_are_stretches_of_whole_frames(folds: int, seed: int) -> None:
    rows = sample_set(made_samples(("a", "b"), 6, seed), "f1")
    rows = rows.select(rows.parts == PROFILE)
    masks = time_folds(rows, folds)
    assert (np.sum(masks, axis=0) == 1).all()
    for mask in masks:
        assert not set(map(tuple, keys(rows)[mask])) & set(map(tuple, keys(rows)[~mask]))
        for clip in "ab":
            chosen = np.unique(rows.frame_index[mask & (rows.clips == clip)])
            assert len(chosen) >= 1
            assert (np.diff(chosen) == 1).all()


def keys(rows: SampleSet) -> np.ndarray:
    return np.column_stack([rows.clips, rows.frame_index.astype(str)])


@pytest.mark.parametrize("folds", [1, 7])
def test_folds_that_cannot_be_made(folds: int, samples: pd.DataFrame) -> None:
    rows = sample_set(samples, "f1")
    with pytest.raises(UserError, match=f"search.folds={folds}"):
        time_folds(rows.select(rows.parts == PROFILE), folds)


def test_splits_learn_from_profile_parts_and_judge_on_eval_parts(samples: pd.DataFrame) -> None:
    rows = sample_set(samples, "f1")
    made = {split.name: split for split in splits(rows, ("walk*",), ("drive*",))}
    for split in made.values():
        for learned, held in split.folds:
            assert set(rows.parts[learned]) == {PROFILE}
            assert set(rows.parts[held]) == {EVAL}
    assert len(made["held_out_clips"].folds) == 3
    for learned, held in made["held_out_clips"].folds:
        assert not set(rows.clips[learned]) & set(rows.clips[held])
    assert sum(held.sum() for _, held in made["held_out_clips"].folds) == (rows.parts == EVAL).sum()
    ((learned, held),) = made["walking_to_other"].folds
    assert (set(rows.clips[learned]), set(rows.clips[held])) == ({"walkA", "walkB"}, {"driveA"})


def test_splits_that_cannot_be_made(samples: pd.DataFrame, caplog: pytest.LogCaptureFixture) -> None:
    rows = sample_set(samples[samples["clip"] == "walkA"], "f1")
    assert [split.name for split in splits(rows, ("walk*",), ("drive*",))] == ["held_out_parts", "walking_to_walking"]
    assert "no table 'Walking to driving and cycling'" in caplog.text
    with pytest.raises(UserError, match="none of the eval parts"):
        splits(rows.select(rows.parts == PROFILE), ("walk*",), ())


def test_the_correction_looks_back_and_never_ahead() -> None:
    clips, frames = np.array(["a", "a", "b", "a"]), np.array([0, 1, 0, 2])
    held = SampleSet("payload_bytes", np.zeros((4, 5)), np.array([20.0, 10, 70, 1]), clips, np.full(4, EVAL), frames)
    assert corrected(held, np.full(4, 10.0), 0).tolist() == pytest.approx([10, 20, 10, 10])


def test_a_line_is_found_again() -> None:
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


def test_an_mlp_learns_the_curve_that_a_line_cannot(samples: pd.DataFrame) -> None:
    rows = sample_set(samples, "payload_bytes")
    learned, held = rows.select(rows.parts == PROFILE), rows.select(rows.parts == EVAL)
    plan = MlpPlan(widths=(32, 16), epochs=120, batch=16, learning_rate=1e-2, log_target=True, input_noise=0.0)
    scores = {
        estimator.kind: Scores.of(held.values, estimator.predict(held.features))
        for estimator in (
            fit_mlp(learned, plan, 0, **ORIGIN),
            fit_linear(learned, **ORIGIN),
            fit_mean(learned, **ORIGIN),
        )
    }
    assert scores["mlp"].r2 > 0.95
    for other in ("linear", "mean"):
        assert scores["mlp"].mae < scores[other].mae
        assert scores["mlp"].mape < scores[other].mape


def test_too_few_samples_are_told_before_the_search(samples: pd.DataFrame, tmp_path: Path) -> None:
    rows = sample_set(
        samples[(samples["part"] == PROFILE) & ((samples["frame_index"] > 2) | (samples["tau_d"] == 0))], "f1"
    )
    with pytest.raises(
        UserError, match=r"4 configurations such as tau_d=2, quality=70, restoration_point=0 are in none"
    ):
        search_mlp(rows, SMALL, tmp_path)
    with pytest.raises(UserError, match="in none of the 9 frames"):
        check_covered(rows.select(rows.frame_index <= 2), rows)


def test_the_same_seed_makes_the_same_mlp(samples: pd.DataFrame) -> None:
    rows = sample_set(samples, "f1")
    plan = MlpPlan(widths=(8,), epochs=2, dropout=0.1)
    torch.manual_seed(1)
    first = fit_mlp(rows, plan, 5, **ORIGIN).predict(rows.features)
    drawn = torch.rand(1)
    assert (fit_mlp(rows, plan, 5, **ORIGIN).predict(rows.features) == first).all()
    assert (fit_mlp(rows, plan, 6, **ORIGIN).predict(rows.features) != first).any()
    torch.manual_seed(1)
    assert torch.rand(1) == drawn  # training leaves the caller's generator alone


SMALL = SearchPlan(trials=3, folds=2, epochs=(1, 2), widths=(8, 64, 128))


def test_a_killed_search_goes_on(samples: pd.DataFrame, tmp_path: Path) -> None:
    rows = sample_set(samples, "payload_bytes")
    rows = rows.select(rows.parts == PROFILE)

    def killed(study: optuna.Study) -> None:
        if len(study.trials) == 2:
            study.ask()  # a trial that a killed process leaves behind
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search_mlp(rows, SMALL, tmp_path, killed)
    _, study = search_mlp(rows, SMALL, tmp_path)
    states = [trial.state.name for trial in study.trials]
    assert (states[2], len(states)) == ("FAIL", 4)
    first = study.trials[0]
    assert [first.params[name] for name in ("layers", "width_1", "width_2")] == [2, 128, 64]
    assert sum(bool(trial.user_attrs.get("paper")) for trial in study.trials) == 1
    drawn = [trial.params["learning_rate"] for trial in study.trials if trial.params]
    assert len(set(drawn)) == len(drawn)  # the sampler does not begin anew
    plan, again = search_mlp(rows, SMALL, tmp_path)
    assert len(again.trials) == 4
    assert plan.learning_rate == again.best_trial.params["learning_rate"]
    _, longer = search_mlp(rows, replace(SMALL, trials=4), tmp_path)
    assert len(longer.trials) == 5


def test_other_samples_have_another_study(samples: pd.DataFrame, tmp_path: Path) -> None:
    names = set()
    for table in (samples, samples.assign(f1=samples["f1"] * 0.9)):
        rows = sample_set(table, "f1")
        names.add(search_mlp(rows, replace(SMALL, trials=1), tmp_path)[1].study_name)
    assert len(names) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trials": 0}, "search.trials=0"),
        ({"layers": (2, 1)}, r"search.layers=\[2, 1\]"),
        ({"epochs": (0, 5)}, "epochs"),
    ],
)
def test_searches_that_make_no_sense(change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        SearchPlan(**change)


def test_a_search_without_a_finished_trial_says_so(samples: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no trial for f1 .* raise search\.timeout_s"):
        search_mlp(sample_set(samples, "f1"), replace(SMALL, timeout_s=0.0), tmp_path)


def test_tables_tell_kib_and_zeros() -> None:
    results = [
        Result("held_out_parts", "Held-out parts", "payload_bytes", "mlp", Scores(2048, 4096, 10, 0.9, 50, 0)),
        Result("held_out_parts", "Held-out parts", "f1", "mean", Scores(0.1, 0.2, float("nan"), 0.5, 70, 4)),
    ]
    text = markdown(results)
    assert "| MLP | Size (KiB) | 2.00 | 4.00 | 10.0 | 0.900 |" in text
    assert "| Offline mean | Accuracy (F1) | 0.1000 | 0.2000 | nan | 0.500 |" in text
    assert "50 samples of size, 70 samples of accuracy (4 with a truth of 0, not in MAPE)." in text
    named = metrics(results)
    assert named["held_out_parts/size_mlp_mae_kib"] == 2
    assert named["held_out_parts/accuracy_mean_rmse"] == 0.2
    assert "held_out_parts/accuracy_mean_mape" not in named
