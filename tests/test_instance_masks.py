"""Masks of objects: quantisation, packed form and pasting into a frame, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from vitmalis.instance_masks import (
    MASK_BYTES,
    MASK_SIDE,
    MASK_THRESHOLD,
    masks_to_send,
    packed,
    pasted,
    quantized,
    unpacked,
)

FULL = np.full((MASK_SIDE, MASK_SIDE), 255, np.uint8)


def test_probabilities_become_levels_of_which_the_upper_half_is_the_object() -> None:
    """16 levels, 17 apart."""
    probabilities = np.zeros((1, MASK_SIDE, MASK_SIDE), np.float32)
    probabilities[0, 0, :6] = [0, 0.0624, 0.0626, 0.499, 0.5, 1]
    masks = quantized(probabilities)
    assert masks.dtype == np.uint8
    assert masks[0, 0, :6].tolist() == [0, 0, 17, 119, 136, 255]
    assert (masks[0, 0, :6] >= MASK_THRESHOLD).tolist() == [False] * 4 + [True] * 2


def test_two_pixels_are_packed_in_a_byte_by_rows() -> None:
    """The first in the higher half."""
    masks = np.zeros((2, MASK_SIDE, MASK_SIDE), np.uint8)
    masks[0, 0, :3] = [255, 17, 136]
    masks[1, 27, 27] = 255
    data = packed(masks)
    assert len(data) == 2 * MASK_BYTES == 2 * 392
    assert data[:2] == b"\xf1\x80"
    assert data[-1:] == b"\x0f"
    np.testing.assert_array_equal(unpacked(data), masks)
    assert unpacked(b"").shape == (0, MASK_SIDE, MASK_SIDE)
    with pytest.raises(ValueError, match="reshape"):
        unpacked(data[1:])


def test_what_was_quantised_is_packed_without_loss() -> None:
    """So that results on the wire are those of the virtual server."""
    masks = quantized(np.random.default_rng(0).random((5, MASK_SIDE, MASK_SIDE)))
    np.testing.assert_array_equal(unpacked(packed(masks)), masks)


def test_masks_are_to_be_sent_up_to_the_last_that_does_not_fill_its_box() -> None:
    """Behind it nothing needs to be sent."""
    nearly = FULL.copy()
    nearly[5, 5] = 238
    assert masks_to_send(np.stack([FULL, nearly, FULL, FULL])) == 2
    assert masks_to_send(np.stack([FULL, FULL])) == masks_to_send(FULL[None][:0]) == 0


@pytest.mark.parametrize("box", [[2, 3, 9, 11], [2.6, 3.2, 8.4, 10.9], [-4, -3, 5, 20]])
def test_a_full_mask_covers_the_pixels_with_centres_in_its_box(box: list[float]) -> None:
    """It is cut at the window's ends."""
    x, y = np.arange(12) + 0.5, np.arange(14) + 0.5
    expected = ((y >= box[1]) & (y <= box[3]))[:, None] & ((x >= box[0]) & (x <= box[2]))
    np.testing.assert_array_equal(pasted(FULL, np.array(box), (0, 0, 12, 14)), expected)


def test_a_mask_is_pasted_at_the_scale_of_its_box() -> None:
    """Its left half, in a box twice as wide and once as high as the mask, seen through a window."""
    mask = FULL.copy()
    mask[:, MASK_SIDE // 2 :] = 0
    shown = pasted(mask, np.array([10, 20, 10 + 2 * MASK_SIDE, 20 + MASK_SIDE]), (0, 10, 100, 60))
    rows, cols = np.nonzero(shown)
    assert (cols.min(), cols.max(), rows.min(), rows.max()) == (10, 10 + MASK_SIDE - 1, 10, 10 + MASK_SIDE - 1)
    assert shown.sum() == MASK_SIDE**2


def test_a_box_without_area_has_no_pixels() -> None:
    """Detectors return such boxes."""
    assert pasted(FULL, np.array([3.2, 3.2, 3.2, 3.2]), (0, 0, 8, 8)).sum() == 0
