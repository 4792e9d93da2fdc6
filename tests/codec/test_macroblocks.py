"""Macroblocks of two qualities in one JPEG."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from vitmalis.codec.jpeg import decode_jpeg, encode_jpeg
from vitmalis.codec.macroblocks import coarsened
from vitmalis.codec.offload import encode_offload
from vitmalis.errors import UserError
from vitmalis.offload import OffloadDecision
from vitmalis.regions import RegionGrid
from vitmalis.types import Configuration, RgbImage

WIDTH, HEIGHT = 200, 150


@pytest.fixture(scope="module")
def image() -> RgbImage:
    """Noise with some structure, of a size that is no multiple of a macroblock."""
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT // 2, WIDTH // 2, 3), np.uint8)
    return np.asarray(cv2.resize(noise, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR), np.uint8)


@pytest.fixture(scope="module")
def left() -> np.ndarray:
    """The left half of the macroblocks, in 6 columns of 13."""
    return np.broadcast_to(np.arange(13) < 6, (10, 13)).copy()


def test_only_masked_macroblocks_change(image: RgbImage, left: np.ndarray) -> None:
    found = coarsened(image, left, 20)
    np.testing.assert_array_equal(found[:, 96:], image[:, 96:])
    low = decode_jpeg(encode_jpeg(image, 20), WIDTH * HEIGHT)
    np.testing.assert_array_equal(found[:, :96], low[:, :96])


def test_coarse_macroblocks_cost_fewer_bytes_and_the_others_keep_their_quality(
    image: RgbImage, left: np.ndarray
) -> None:
    grid, configuration = RegionGrid(WIDTH, HEIGHT, window=5), Configuration(quality=90)
    plain = encode_offload(image, OffloadDecision(configuration), grid)
    decision = OffloadDecision(configuration, coarse_mask=left, coarse_quality=10)
    mixed = encode_offload(image, decision, grid)
    assert len(encode_jpeg(image, 10)) < len(mixed.jpeg) < 0.8 * len(plain.jpeg)
    assert (mixed.width, mixed.height, mixed.regions) == (WIDTH, HEIGHT, None)
    received, whole = (decode_jpeg(frame.jpeg, WIDTH * HEIGHT).astype(int) for frame in (mixed, plain))
    # Beyond the border, where chroma is interpolated from both sides, the JPEGs are the same.
    np.testing.assert_array_equal(received[:, 98:], whole[:, 98:])


def test_a_mask_of_another_frame_is_refused(image: RgbImage) -> None:
    with pytest.raises(UserError, match=r"a 200x150 frame has 10 x 13 macroblocks of 16 px: give bool \(10, 13\)"):
        coarsened(image, np.ones((3, 3), bool), 20)
