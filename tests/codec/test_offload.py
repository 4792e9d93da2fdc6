from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from vitmalis.codec.jpeg import decode_jpeg, encode_jpeg, jpeg_size
from vitmalis.codec.offload import encode_offload
from vitmalis.codec.packing import FLAT_GREY, pack, packed_size
from vitmalis.errors import UserError
from vitmalis.offload import OffloadDecision
from vitmalis.regions.grid import RegionGrid
from vitmalis.types import Configuration, RgbImage

GRID = RegionGrid(321, 191, 2)  # 3 x 6 regions of 64 px
CONFIGURATION = Configuration(2, 80, 3)


@pytest.fixture(scope="module")
def image() -> RgbImage:
    return np.random.default_rng(0).integers(0, 256, (191, 321, 3), np.uint8)


def one_region() -> np.ndarray:
    mask = np.zeros(GRID.shape, bool)
    mask[1, 2] = True
    return mask


def test_a_mask_makes_a_packed_frame(image: RgbImage) -> None:
    sent = encode_offload(image, OffloadDecision(CONFIGURATION, one_region()), GRID)
    assert sent.jpeg == encode_jpeg(pack(image, GRID, one_region()), 80)
    assert (sent.width, sent.height) == (321, 191)
    assert jpeg_size(sent.jpeg) == packed_size(GRID, one_region())[::-1]
    np.testing.assert_array_equal(sent.regions, one_region())


@pytest.mark.parametrize("mask", [None, np.zeros(GRID.shape, bool)], ids=["no mask", "empty mask"])
def test_nothing_low_is_the_plain_frame(image: RgbImage, mask: np.ndarray | None) -> None:
    sent = encode_offload(image, OffloadDecision(CONFIGURATION, mask), GRID)
    assert sent.jpeg == encode_jpeg(image, 80)
    assert (sent.width, sent.height, sent.regions) == (321, 191, None)


def test_blank_regions_are_flat_and_the_others_as_they_are(image: RgbImage) -> None:
    before = image.copy()
    sent = encode_offload(image, OffloadDecision(CONFIGURATION, blank_mask=one_region()), GRID)
    np.testing.assert_array_equal(image, before)
    got, plain = decode_jpeg(sent.jpeg, image.size), decode_jpeg(encode_jpeg(image, 80), image.size)
    assert (sent.width, sent.height, sent.regions) == (321, 191, None)
    assert np.abs(got[66:126, 130:190].astype(int) - FLAT_GREY).max() <= 2
    outside = np.ones((191, 321), bool)
    outside[63:129, 127:193] = False  # a decoder smooths chroma over one pixel
    np.testing.assert_array_equal(got[outside], plain[outside])


def test_a_smaller_frame_says_its_own_size() -> None:
    halves = np.full((191, 321, 3), 40, np.uint8)
    halves[:, 160:] = 200
    sent = encode_offload(halves, OffloadDecision(CONFIGURATION, frame_downsampling=2), GRID)
    assert (sent.width, sent.height) == jpeg_size(sent.jpeg) == (161, 96)
    got = decode_jpeg(sent.jpeg, halves.size)
    assert abs(int(got[50, 40, 0]) - 40) <= 2
    assert abs(int(got[50, 120, 0]) - 200) <= 2


def test_what_does_not_fit_is_refused(image: RgbImage) -> None:
    with pytest.raises(ValueError, match="2 times smaller"):
        encode_offload(image, OffloadDecision(CONFIGURATION, one_region(), frame_downsampling=2), GRID)
    with pytest.raises(ValueError, match="expected uint8"):
        encode_offload(image[:100], OffloadDecision(CONFIGURATION), GRID)
    for decision in (
        OffloadDecision(CONFIGURATION, downsample_mask=np.zeros((1, 1), bool)),
        OffloadDecision(CONFIGURATION, blank_mask=np.zeros((1, 1), bool)),
    ):
        with pytest.raises(UserError, match="3 x 6 regions"):
            encode_offload(image, decision, GRID)


def test_a_client_need_not_load_torch_to_encode() -> None:
    program = "import sys, vitmalis.codec.offload; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
