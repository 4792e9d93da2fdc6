from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from vitmalis.errors import UserError
from vitmalis.estimation import SIZE_FEATURES
from vitmalis_jobs.training.estimation.sample_set import EVAL, PROFILE, SampleSet, sample_set
from vitmalis_jobs.training.estimation.splits import corrected, make_splits


def test_splits_train_on_profile_parts_and_evaluate_on_eval_parts(samples: pd.DataFrame) -> None:
    rows = sample_set(samples, "f1")
    made = {split.name: split for split in make_splits(rows, ("walk*",), ("drive*",))}
    for split in made.values():
        for training, evaluation in split.folds:
            assert set(rows.parts[training]) == {PROFILE}
            assert set(rows.parts[evaluation]) == ({EVAL, PROFILE} if split.name == "held_out_clips" else {EVAL})
    assert len(made["held_out_clips"].folds) == 3
    for training, evaluation in made["held_out_clips"].folds:
        assert not set(rows.clips[training]) & set(rows.clips[evaluation])
    assert sum(evaluation.sum() for _, evaluation in made["held_out_clips"].folds) == len(rows)
    ((training, evaluation),) = made["walking_to_other"].folds
    assert (set(rows.clips[training]), set(rows.clips[evaluation])) == ({"walkA", "walkB"}, {"driveA"})


def test_splits_that_cannot_be_made(samples: pd.DataFrame, caplog: pytest.LogCaptureFixture) -> None:
    rows = sample_set(samples[samples["clip"] == "walkA"], "f1")
    assert [split.name for split in make_splits(rows, ("walk*",), ("drive*",))] == [
        "held_out_parts",
        "walking_to_walking",
    ]
    assert "no table 'Walking to driving and cycling'" in caplog.text
    with pytest.raises(UserError, match="none of the eval parts"):
        make_splits(rows.select(rows.parts == PROFILE), ("walk*",), ())


def test_the_correction_uses_earlier_offloads_only() -> None:
    rows = SampleSet(
        target="payload_bytes", names=SIZE_FEATURES, features=np.zeros((5, 5)),
        values=np.array([20.0, 10, 70, 1, 40]), weights=np.ones(5),
        reference=np.zeros(5), clips=np.array(["a", "a", "b", "a", "a"]), parts=np.array([*[EVAL] * 4, PROFILE]),
        frame=np.array([0, 1, 4, 2, 3]), payload_bytes=np.ones(5), downsampled_share=np.zeros(5),
    )  # fmt: skip
    assert corrected(rows, np.full(5, 10.0), 0).tolist() == pytest.approx([10, 20, 10, 10, 10])
