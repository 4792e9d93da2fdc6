from __future__ import annotations

import numpy as np

from vitmalis.codec.packing import FLAT_GREY
from vitmalis.regions import Motion, RegionGrid, RegionType
from vitmalis.types import Detections
from vitmalis_jobs.run.figures.region_overlay import TINTS, draw_as_sent, draw_region_overlay

GRID = RegionGrid(width_px=400, height_px=200, window=5)
TYPES = np.array([[RegionType.SBR, RegionType.CMR, RegionType.DOR], [RegionType.SBR, RegionType.CMR, RegionType.DOR]])


def test_each_region_is_tinted_and_framed_as_its_type() -> None:
    image = np.full((200, 400, 3), 100, np.uint8)
    overlay = draw_region_overlay(image, GRID, TYPES.astype(np.int8), Detections.empty())
    assert overlay.shape == image.shape
    assert (image == 100).all()
    for column, kind in enumerate(RegionType):
        x = 160 * column + 60
        assert overlay[80, x].tolist() == [int(0.75 * 100 + 0.25 * value) for value in TINTS[kind]]
        assert tuple(overlay[158, x]) == TINTS[kind]


def test_moving_pixels_boxes_and_low_resolution_show() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (200, 400, 3), np.uint8)
    foreground = np.zeros((50, 100), bool)
    foreground[30, 90] = True  # pixels 120..123, 360..363
    motion = Motion(np.zeros(GRID.shape, np.float32), 0.0, foreground)
    mask = TYPES == RegionType.CMR
    person = Detections.of([[330, 60, 380, 140]], [0.9], [0])
    plain = draw_region_overlay(image, GRID, TYPES.astype(np.int8), Detections.empty())
    full = draw_region_overlay(image, GRID, TYPES.astype(np.int8), person, motion, mask)
    changed = (plain != full).any(axis=-1)
    assert changed[121, 361]
    assert not changed[125, 366]
    assert changed[60, 335:375].all()
    low = full[100:102, 200:202].reshape(4, 3)
    assert (low == low[0]).all()
    assert len(np.unique(plain[100:102, 200:202].reshape(4, 3), axis=0)) == 4


def test_what_is_not_sent_is_flat_with_types_and_without() -> None:
    image = np.random.default_rng(0).integers(0, 256, (200, 400, 3), np.uint8)
    unsent = TYPES == RegionType.SBR
    types = TYPES.astype(np.int8)
    plain = draw_as_sent(image, GRID, unsent_mask=unsent)
    assert (plain[:, :160] == FLAT_GREY).all()
    assert (plain[:, 160:] == image[:, 160:]).all()
    typed = draw_as_sent(image, GRID, region_types=types, unsent_mask=unsent)
    tinted = [int(0.75 * FLAT_GREY + 0.25 * value) for value in TINTS[RegionType.SBR]]
    assert (typed[60:150, 10:150] == tinted).all()
    whole = draw_as_sent(image, GRID, region_types=types)
    assert (typed[:, 160:] == whole[:, 160:]).all()
