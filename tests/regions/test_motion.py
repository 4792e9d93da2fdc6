"""Motion per region: hand-counted foreground, and what the analyzer sees in moving and in still images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitmalis.errors import UserError
from vitmalis.regions import ModelGeometry, MotionAnalyzer, MotionOptions, RegionGrid
from vitmalis.regions.motion import motion_of, reduction_of

GRID = ModelGeometry(window=5, factor=2, patch_px=16, restoration_points=4).grid(960, 540)


def test_shares_by_hand() -> None:
    foreground = np.zeros((4, 6), bool)
    foreground[0, 0] = foreground[0, 3] = foreground[3, 2] = foreground[3, 5] = True
    motion = motion_of(foreground, np.array([0, 2, 4]), np.array([0, 3, 5, 6]))
    assert motion.region_motion.tolist() == [[0.25, 0.25, 0], [0.25, 0, 0.25]]
    assert motion.region_motion.dtype == np.float32
    assert motion.frame_motion == pytest.approx(4 / 24)


def test_an_empty_region_has_no_share() -> None:
    """A partial border region may be narrower than a pixel of the reduced frame."""
    motion = motion_of(np.ones((2, 4), bool), np.array([0, 2]), np.array([0, 4, 4]))
    assert motion.region_motion.tolist() == [[1, 0]]


@given(
    width=st.integers(20, 300),
    height=st.integers(20, 200),
    window=st.integers(1, 4),
    scale=st.sampled_from([0.1, 0.25, 1.0]),
    seed=st.integers(0, 99),
)
def test_shares_sum_to_one_or_nothing_moves(width: int, height: int, window: int, scale: float, seed: int) -> None:
    grid = RegionGrid(width, height, window)
    analyzer = MotionAnalyzer(grid, MotionOptions(scale=scale))
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    first, still = analyzer.analyse(image), analyzer.analyse(image)
    assert first.region_motion.shape == grid.shape
    assert first.region_motion.sum() == pytest.approx(1, abs=1e-5)
    assert first.frame_motion == 1
    assert not still.region_motion.any()
    assert still.frame_motion == 0
    assert still.image_foreground is not None
    assert not still.image_foreground.any()


def test_what_moves_is_foreground_in_its_own_region_alone() -> None:
    """A textured square walks over a still image, inside the region of row 1, column 2: pixels 320..479, 160..319."""
    texture = np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8)
    analyzer = MotionAnalyzer(GRID)
    for step in range(8):
        image = np.full((540, 960, 3), 90, np.uint8)
        image[200:260, 340 + 8 * step : 400 + 8 * step] = texture
        motion = analyzer.analyse(image)
    assert motion.region_motion[1, 2] == pytest.approx(1)
    assert 0 < motion.frame_motion <= 72 * 64 / (540 * 960)


def test_a_panning_camera_leaves_the_flat_sky_still() -> None:
    street = np.random.default_rng(1).integers(0, 256, (220, 1200, 3), np.uint8)
    analyzer = MotionAnalyzer(GRID)
    for step in range(8):
        image = np.full((540, 960, 3), 200, np.uint8)
        image[320:] = street[:, 8 * step : 8 * step + 960]
        motion = analyzer.analyse(image)
    assert not motion.region_motion[:2].any()
    assert (motion.region_motion[2:] > 0.001).all()


def test_a_large_frame_is_analysed_as_its_half_would_be() -> None:
    """Up to rounding, as it is halved three times, and its half is reduced in one step."""
    large = RegionGrid(1920, 1080, 10)  # the regions of GRID, twice as large
    assert reduction_of(GRID, MotionOptions()).averaged == ((240, 135),)
    assert reduction_of(RegionGrid(1280, 720, 5), MotionOptions()).averaged == ((320, 180),)
    assert reduction_of(large, MotionOptions()).averaged == ((960, 540), (480, 270), (240, 135))
    assert reduction_of(large, MotionOptions(max_pixels=480 * 270)).averaged == ((480, 270),)
    assert reduction_of(RegionGrid(3, 5, 1), MotionOptions(scale=1.0, max_pixels=1)).averaged == ((2, 2), (1, 1))
    texture = np.random.default_rng(2).integers(0, 256, (540, 1000, 3), np.uint8)
    of_half, of_large = MotionAnalyzer(GRID), MotionAnalyzer(large)
    for step in range(4):
        half = np.ascontiguousarray(texture[:, 8 * step : 8 * step + 960])
        expected, motion = of_half.analyse(half), of_large.analyse(half.repeat(2, axis=0).repeat(2, axis=1))
        assert motion.frame_motion == pytest.approx(expected.frame_motion, abs=0.01)
        assert motion.frame_motion > 0.1
        np.testing.assert_allclose(motion.region_motion, expected.region_motion, atol=0.002)


def test_a_frame_of_another_size_is_refused() -> None:
    with pytest.raises(UserError, match="640x360 frame"):
        MotionAnalyzer(GRID).analyse(np.zeros((360, 640, 3), np.uint8))


@pytest.mark.parametrize(
    "wrong", [{"scale": 0.0}, {"scale": 2.0}, {"max_pixels": 0}, {"history": 0}, {"variance_threshold": 0.0}]
)
def test_options_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match=rf"motion\.{next(iter(wrong))}"):
        MotionOptions(**wrong)  # type: ignore[arg-type]
