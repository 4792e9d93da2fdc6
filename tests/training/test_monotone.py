from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vitmalis.estimation import configuration_space
from vitmalis_jobs.training.estimation.monotone import project


def test_a_projection_by_hand() -> None:
    # Quality 70 to 80 at tau_d 0: 0.9 and 0.8 contradict each other; with weights 1 and 3 they share 0.825.
    qualities = np.array([[0, 70, 0], [0, 75, 0], [0, 80, 0]])
    values = np.array([0.9, 0.8, 0.95])
    np.testing.assert_allclose(project(values, np.array([1.0, 3, 1]), qualities), [0.825, 0.825, 0.95])
    # Later restoration and more downsampling that look better share their mean with what they beat.
    others = np.array([[0, 90, 0], [1, 90, 0], [1, 90, 4], [2, 90, 4]])
    np.testing.assert_allclose(
        project(np.array([0.9, 0.8, 0.84, 0.7]), np.ones(4), others), [0.9, 0.82, 0.82, 0.7], atol=1e-8
    )
    np.testing.assert_allclose(
        project(np.array([0.8, 0.9, 0.7, 0.76]), np.ones(4), others), [0.85, 0.85, 0.73, 0.73], atol=1e-8
    )


@settings(max_examples=10)
@given(st.integers(0, 10**6))
def test_a_projection_is_monotone_keeps_the_mean_and_changes_no_monotone_values(seed: int) -> None:
    random, space = np.random.default_rng(seed), configuration_space()
    configurations = np.column_stack([space.tau_d, space.quality, space.restoration_point])
    weights = random.uniform(0.5, 2, len(space))
    found = project(random.uniform(0.8, 1, len(space)), weights, configurations)
    for row, (tau_d, quality, point) in enumerate(configurations.tolist()):
        same_quality = configurations[:, 1] == quality
        later = same_quality & (configurations[:, 0] >= tau_d) & (configurations[:, 2] >= point)
        coarser = (configurations[:, [0, 2]] == [tau_d, point]).all(axis=1) & (configurations[:, 1] <= quality)
        assert (found[later | coarser] <= found[row] + 1e-5).all()
    np.testing.assert_allclose(project(found, weights, configurations), found, atol=1e-5)
