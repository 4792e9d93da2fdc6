from __future__ import annotations

import cv2
import numpy as np
import pytest

from vitmalis.reduction import Reduction, reduction


def test_one_step_by_default() -> None:
    assert reduction(960, 540, 0.25) == Reduction(((240, 135),))


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        (0.125, Reduction(((960, 540), (480, 270), (240, 135)))),
        (0.5, Reduction(((960, 540),))),
        (1 / 3, Reduction(((960, 540),), (640, 360))),
        (0.15, Reduction(((960, 540), (480, 270)), (288, 162))),
        (0.8, Reduction((), (1536, 864))),
        (1.0, Reduction((), (1920, 1080))),
    ],
)
def test_halves_come_first(scale: float, expected: Reduction) -> None:
    assert reduction(1920, 1080, scale, by_halves=True) == expected


def test_no_side_becomes_shorter_than_a_pixel() -> None:
    assert reduction(3, 1, 0.25, by_halves=True).averaged == ((2, 1), (1, 1))


def test_halves_are_means_of_their_pixels() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    image[:2, :2, 0] = [[10, 20], [30, 40]]
    image[2:, 2:, 2] = 200
    halved = reduction(4, 4, 0.5, by_halves=True).apply(image)
    assert halved[..., 0].tolist() == [[25, 0], [0, 0]]
    assert halved[..., 2].tolist() == [[0, 0], [0, 200]]
    assert reduction(4, 4, 0.25, by_halves=True).apply(image).tolist() == [[[6, 0, 50]]]  # 25 / 4 and 200 / 4


def test_large_images_keep_what_they_show() -> None:
    coarse = np.random.default_rng(0).integers(0, 256, (18, 32, 3), np.uint8)
    image = np.asarray(cv2.resize(coarse, (1920, 1080), interpolation=cv2.INTER_CUBIC), np.uint8)
    at_once, by_halves = (reduction(1920, 1080, 1 / 3, by_halves=halves).apply(image) for halves in (False, True))
    assert by_halves.shape == (360, 640, 3)
    assert np.abs(by_halves.astype(int) - at_once).max() <= 3
