from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.synthetic_samples import ORIGIN, synthetic_samples
from vitmalis.errors import UserError
from vitmalis.estimation import LinearEstimator
from vitmalis.estimation.features import ACCURACY_FEATURES, PAPER_ACCURACY_FEATURES
from vitmalis_jobs.training.estimation.sample_set import clip_folds, read_samples, sample_set


def test_samples_from_files(samples: pd.DataFrame, tmp_path: Path) -> None:
    for clip, table in samples.sample(frac=1, random_state=0).groupby("clip"):
        table.assign(width=3).to_parquet(tmp_path / f"{clip}.parquet")
    read = read_samples(tmp_path)
    assert len(read) == len(samples)
    assert read["clip"].is_monotonic_increasing
    size, accuracy = sample_set(read, "payload_bytes"), sample_set(read, "f1")
    assert (len(size), len(accuracy)) == (3 * 2 * 6 * 4, 3 * 2 * 6 * 6)  # a size at both points counts once
    assert size.features.shape == (len(size), 5)
    assert accuracy.features.shape == (len(accuracy), 10)
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


def test_rows_know_their_frame_its_reference_and_their_weight(samples: pd.DataFrame) -> None:
    rows = sample_set(samples, "f1")
    for frame in np.unique(rows.frame):
        own = rows.frame == frame
        (reference,) = rows.values[own & (rows.features[:, 0] == 0) & (rows.features[:, 1] == 95)]
        assert (rows.reference[own] == reference).all()
        np.testing.assert_array_equal(rows.relative[own], rows.values[own] - reference)
    np.testing.assert_array_equal(rows.weights, 2 * samples["tp"] + samples["fp"] + samples["fn"])
    # With these weights, the mean is the F1 of all boxes together.
    counts = samples[["tp", "fp", "fn"]].sum()
    aggregated = 2 * counts["tp"] / (2 * counts["tp"] + counts["fp"] + counts["fn"])
    assert np.average(rows.values, weights=rows.weights) == pytest.approx(aggregated)


def test_moments_of_two_kinds_are_frames_of_their_own(samples: pd.DataFrame) -> None:
    both = pd.concat([samples, samples.assign(moments="on_policy")], ignore_index=True)
    assert sample_set(both, "f1").frames == 2 * sample_set(samples, "f1").frames


def test_frames_without_boxes_say_nothing_about_the_f1_but_have_a_size(samples: pd.DataFrame) -> None:
    empty = samples.copy()
    empty.loc[empty["frame_index"] == 0, ["tp", "fp", "fn"]] = 0
    assert sample_set(empty, "f1").frames == 30
    assert sample_set(empty, "payload_bytes").frames == 36


def test_a_frame_without_its_reference_cannot_be_used(samples: pd.DataFrame) -> None:
    lacking = samples[(samples["tau_d"] > 0) | (samples["quality"] != 95) | (samples["frame_index"] != 4)]
    with pytest.raises(UserError, match="frame 4 of clip 'walkA' has no sample with tau_d=0, quality=95"):
        sample_set(lacking, "f1")


@pytest.mark.parametrize(
    ("names", "differing"), [(ACCURACY_FEATURES, [0, 1, 2, 3, 4, 9]), (PAPER_ACCURACY_FEATURES, [0, 1, 2, 3, 4])]
)
def test_differences_of_estimates_are_to_the_reference_of_the_frame(
    samples: pd.DataFrame, names: tuple[str, ...], differing: list[int]
) -> None:
    """The content is the same in both, apart from what downsampled regions hold of it."""
    rows = sample_set(samples, "f1")
    coefficients = np.arange(len(names)) * 1e-4
    line = LinearEstimator(target="f1", features=names, coefficients=coefficients, intercept=0.5, **ORIGIN)
    reference = np.zeros(len(differing))
    reference[1] = 95
    expected = (rows.features[:, differing] - reference) @ coefficients[differing]
    np.testing.assert_allclose(rows.relative_estimate(line), expected, atol=1e-12)


@given(folds=st.integers(2, 5), seed=st.integers(0, 20))
def test_folds_are_whole_clips(folds: int, seed: int) -> None:
    rows = sample_set(synthetic_samples(tuple("abcde"), 2, seed), "f1")
    masks = clip_folds(rows, folds)
    assert (np.sum(masks, axis=0) == 1).all()
    for mask in masks:
        assert mask.any()
        assert not set(rows.clips[mask]) & set(rows.clips[~mask])


@pytest.mark.parametrize("folds", [1, 4])
def test_folds_that_cannot_be_made(folds: int, samples: pd.DataFrame) -> None:
    with pytest.raises(UserError, match=rf"search.folds={folds}: .* as there are clips \(3\)"):
        clip_folds(sample_set(samples, "f1"), folds)
