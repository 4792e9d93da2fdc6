from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vitmalis.errors import UserError
from vitmalis.estimation import ACCURACY_FEATURES, SIZE_FEATURES, Candidates, candidate_features, configuration_space
from vitmalis.regions import Motion, RegionType, downsample_mask
from vitmalis.types import Configuration

SBR, CMR, DOR = RegionType


def test_the_space_of_the_paper() -> None:
    space = configuration_space()
    assert len(space) == 7 + 2 * 5 * 7 == 77
    configurations = [space.configuration(index) for index in range(len(space))]
    assert len(set(configurations)) == 77
    assert {c.restoration_point for c in configurations if c.tau_d == 0} == {0}
    assert {c.quality for c in configurations} == set(range(70, 101, 5))
    assert {(c.tau_d, c.restoration_point) for c in configurations if c.tau_d} == {
        (tau, point) for tau in (1, 2) for point in range(5)
    }


def test_a_space_of_ones_own() -> None:
    space = configuration_space(qualities=(95,), tau_d=(0, 2), restoration_points=(4,))
    assert [space.configuration(i) for i in range(len(space))] == [Configuration(0, 95, 0), Configuration(2, 95, 4)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tau_d": (0, 3)}, r"tau_d \[3\]"),
        ({"qualities": (0, 70)}, r"quality \[0\]"),
        ({"qualities": ()}, "empty"),
        ({"tau_d": (1,), "restoration_points": ()}, "empty"),
    ],
)
def test_spaces_that_make_no_sense(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        configuration_space(**options)


def test_features_of_a_frame_by_hand() -> None:
    types = np.array([[SBR, CMR, CMR], [DOR, SBR, SBR]], np.int8)
    motion = Motion(np.array([[0.0, 0.25, 0.125], [0.5, 0.0625, 0.0625]], np.float32), frame_motion=0.3)
    relevance = np.array([[0.0, 0.0, 0.0], [1.0, 0.5, 0.0]])
    space = Candidates.of([Configuration(0, 95, 0), Configuration(1, 70, 2), Configuration(2, 100, 4)])
    uncertainty = np.array([[0.0, 0.125, 0.0], [0.25, 0.0625, 0.0]])
    features = candidate_features(space, motion, relevance, uncertainty, types)
    mean = 0.25
    std = np.sqrt((4 * mean**2 + 0.75**2 + 0.25**2) / 6)
    assert ACCURACY_FEATURES == (
        "tau_d", "quality", "restoration_point", "downsampled_regions", "downsampled_motion", "frame_motion",
        "relevance_mean", "relevance_std", "uncertainty", "downsampled_uncertainty",
    )  # fmt: skip
    np.testing.assert_allclose(
        features.of(ACCURACY_FEATURES),
        [
            [0, 95, 0, 0, 0.0, 0.3, mean, std, 0.4375, 0.0],
            [1, 70, 2, 2, 0.375, 0.3, mean, std, 0.4375, 0.125],
            [2, 100, 4, 5, 0.5, 0.3, mean, std, 0.4375, 0.1875],
        ],
    )
    assert SIZE_FEATURES == ("tau_d", "downsampled_regions", "downsampled_motion", "frame_motion", "quality")
    size = features.of(SIZE_FEATURES)
    np.testing.assert_allclose(size, [[0, 0, 0.0, 0.3, 95], [1, 2, 0.375, 0.3, 70], [2, 5, 0.5, 0.3, 100]])

    # For estimators that learned with three regions in place of six.
    coarser = features.over_regions(np.array([[0.0, 1.0, 0.5]]), 6)
    changed = coarser.of(("downsampled_regions", "relevance_mean", "downsampled_motion"))
    np.testing.assert_allclose(changed, [[0, 0.5, 0], [1, 0.5, 0.375], [2.5, 0.5, 0.5]])


@given(types=hnp.arrays(np.int8, (4, 6), elements=st.integers(0, 2)), seed=st.integers(0, 99))
def test_features_agree_with_the_masks_that_would_be_sent(types: np.ndarray, seed: int) -> None:
    motion = Motion(np.random.default_rng(seed).dirichlet(np.ones(24)).reshape(4, 6).astype(np.float32), 0.2)
    space = configuration_space()
    features = candidate_features(space, motion, np.zeros((4, 6)), np.zeros((4, 6)), types)
    for index in range(0, len(space), 9):
        mask = downsample_mask(types, space.configuration(index).tau_d)
        assert features.columns["downsampled_regions"][index] == mask.sum()
        assert features.columns["downsampled_motion"][index] == pytest.approx(
            motion.region_motion[mask].sum(), abs=1e-6
        )


def test_arrays_of_different_grids_are_refused() -> None:
    motion = Motion(np.zeros((4, 6), np.float32), 0.0)
    with pytest.raises(ValueError, match="shapes"):
        candidate_features(configuration_space(), motion, np.zeros((4, 5)), np.zeros((4, 6)), np.zeros((4, 6), np.int8))
