from __future__ import annotations

import numpy as np
import pytest

from vitmalis.estimation.estimators import FEATURES, Target
from vitmalis_jobs.training.estimation.deviations import deviations
from vitmalis_jobs.training.estimation.sample_set import EVAL, SampleSet


def rows_of(target: Target, features: np.ndarray, values: np.ndarray) -> SampleSet:
    """Two samples of clip a, the second with three times the boxes, and one of clip b."""
    return SampleSet(
        target=target, names=FEATURES[target], features=features, values=values,
        weights=np.array([1.0, 3, 1]), reference=np.zeros(3),
        clips=np.array(["a", "a", "b"]), parts=np.full(3, EVAL), frame=np.arange(3), payload_bytes=np.ones(3),
        downsampled_share=np.zeros(3),
    )  # fmt: skip


def test_errors_are_of_clips_and_spreads_of_frames_by_hand() -> None:
    features = np.zeros((3, len(FEATURES["f1"])))
    features[:, 0] = 2
    errors, spreads = deviations(rows_of("f1", features, np.array([0.9, 0.7, 0.8])), np.full(3, 0.8))
    # Deviations 0.1, -0.1 and 0. Clip a: (0.1 - 3 * 0.1) / 4 = -0.05, clip b: 0.
    assert errors.keys == spreads.keys == ("tau_d", "restoration_point")
    assert errors.configurations.tolist() == spreads.configurations.tolist() == [[2, 0]]
    assert errors.values.tolist() == pytest.approx([np.sqrt(0.05**2 / 2)])
    assert spreads.values.tolist() == pytest.approx([np.sqrt(4 * 0.01 / 5)])


def test_deviations_of_a_payload_are_shares_of_the_estimate() -> None:
    features = np.zeros((3, 5))
    features[:, 0] = [0, 0, 1]
    errors, spreads = deviations(rows_of("payload_bytes", features, np.array([150.0, 150, 100])), np.full(3, 200.0))
    assert errors.configurations.tolist() == [[0], [1]]
    assert errors.values.tolist() == spreads.values.tolist() == pytest.approx([0.25, 0.5])
