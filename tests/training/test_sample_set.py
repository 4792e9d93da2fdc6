from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.synthetic_samples import synthetic_samples
from vitmalis.errors import UserError
from vitmalis_jobs.training.estimation.sample_set import PROFILE, SampleSet, read_samples, sample_set, time_folds


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
    rows = sample_set(synthetic_samples(("a", "b"), 6, seed), "f1")
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
