"""Windows and downsampling factors through the whole path: mask, packing, JPEG, wire, backbone and restoration."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vitmalis.client.header import offload_header
from vitmalis.codec.offload import encode_offload
from vitmalis.codec.packing import pack, packed_layout, unpack
from vitmalis.detector.base import DetectionModel
from vitmalis.detector.build import build_model
from vitmalis.detector.config import DetectorConfig, PyramidConfig, preset
from vitmalis.detector.detector import image_tensor
from vitmalis.detector.loading import load_detector
from vitmalis.detector.mixed import mixed_layout, upsample
from vitmalis.detector.positions import relative_table, with_coarse
from vitmalis.network.wire import coding, messages
from vitmalis.offload import OffloadDecision
from vitmalis.regions.grid import RegionGrid
from vitmalis.server.admission import refusal_reason
from vitmalis.server.decoding import decode_offload
from vitmalis.types import BoolMask, Configuration, Frame, RgbImage

CPU = torch.device("cpu")
LARGEST_PX = 1_000_000


class Scene(NamedTuple):
    """A frame of one grey per region, which a JPEG of quality 100 keeps exactly, and its downsampled regions."""

    grid: RegionGrid
    mask: BoolMask
    image: RgbImage


def shaded(grid: RegionGrid, seed: int) -> Scene:
    draws = np.random.default_rng(seed)
    image = np.empty((grid.height_px, grid.width_px, 3), np.uint8)
    for left, top, right, bottom in grid.region_boxes_px.reshape(-1, 4):
        image[top:bottom, left:right] = draws.integers(0, 256)
    mask = draws.random(grid.shape) < 0.5
    mask[0, 0] |= not mask.any()
    return Scene(grid, mask, image)


@st.composite
def grids(draw: st.DrawFn) -> RegionGrid:
    """Regions of frames whose sides the factor divides, so that no low-resolution pixel is half outside."""
    window, factor = draw(st.integers(1, 5)), draw(st.sampled_from([2, 3, 4]))
    width, height = (factor * draw(st.integers(16, 50)) for _ in range(2))
    return RegionGrid(width, height, window, factor)


def model_for(grid: RegionGrid) -> DetectionModel:
    return small_model(grid.window, grid.factor)


@cache
def small_model(window: int, factor: int) -> DetectionModel:
    """A detector with relative positions, whose every parameter is far from zero."""
    base: DetectorConfig = preset("vitdet_tiny").with_geometry(window, factor)
    vit = msgspec.structs.replace(
        base.vit, embed_dim=12, depth=4, num_heads=2, subsets=2, position_grid=(5, 4), relative_positions=True,
        relative_grid=3,
    )  # fmt: skip
    torch.manual_seed(7)
    pyramid = PyramidConfig(strides=(8, 16, 32), channels=64)
    model = build_model(msgspec.structs.replace(base, vit=vit, pyramid=pyramid)).eval().requires_grad_(False)
    for parameter in model.backbone.net.parameters():
        parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def received_patches(scene: Scene, point: int) -> np.ndarray:
    """Encode and send a frame as a client does, receive and decode it as a server does."""
    grid = scene.grid
    geometry = preset("vitdet_tiny").with_geometry(grid.window, grid.factor).geometry
    decision = OffloadDecision(Configuration(2, 100, point), scene.mask)
    jpeg = encode_offload(scene.image, decision, grid).jpeg
    sent = coding.encode(offload_header(1, Frame(0, 0.0, scene.image), decision, geometry), jpeg)
    header, payload = coding.decode_from_client(sent)
    assert isinstance(header, messages.Offload)
    assert (header.window_size, header.downsampling_factor) == (grid.window, grid.factor)
    assert refusal_reason(header, payload, geometry, LARGEST_PX) is None
    decoded = decode_offload(geometry, header, payload, LARGEST_PX)
    assert decoded.regions is not None
    np.testing.assert_array_equal(decoded.regions, scene.mask)
    return decoded.pixels


def features(model: DetectionModel, scene: Scene, point: int) -> Tensor:
    """Features of a frame that never was packed or sent."""
    layout = model.layout(scene.image.shape[:2], scene.mask)
    return model.backbone.net(model.prepare(image_tensor(scene.image)), layout, point)


@settings(max_examples=12)
@given(grid=grids(), seed=st.integers(0, 999), point=st.integers(0, 2))
def test_what_is_sent_is_what_the_backbone_sees_and_restores(grid: RegionGrid, seed: int, point: int) -> None:
    scene = shaded(grid, seed)
    mask = scene.mask
    patches = received_patches(scene, point)
    assert len(patches) == grid.tokens(mask)
    layout, model = mixed_layout(grid, mask, CPU), model_for(grid)
    pixels = torch.from_numpy(patches)[None].float()
    restored = layout.restore_pixels(pixels)[0, :, : grid.height_px, : grid.width_px]
    np.testing.assert_allclose(restored.permute(1, 2, 0).numpy(), scene.image, atol=1e-3)
    seen = model.backbone.net.forward_patches(model.prepare_patches(pixels, layout), layout, point)
    assert seen.shape[2:] == (grid.patch_rows, grid.patch_cols)
    torch.testing.assert_close(seen, features(model, scene, point), rtol=1e-4, atol=1e-4)
    levels = model.backbone.pyramid(seen)
    (found,) = model.detect_in(levels, (grid.height_px, grid.width_px))
    assert np.isfinite(found.boxes_xyxy).all()


@settings(max_examples=12)
@given(grid=grids(), seed=st.integers(0, 999), point=st.integers(0, 2))
def test_an_empty_mask_changes_nothing(grid: RegionGrid, seed: int, point: int) -> None:
    model, nowhere = model_for(grid), np.zeros(grid.shape, bool)
    images = model.prepare(image_tensor(shaded(grid, seed).image))
    assert images.shape[2:] == (grid.padded_height_px, grid.padded_width_px)
    mixed = model.backbone.net(images, mixed_layout(grid, nowhere, CPU), point)
    torch.testing.assert_close(mixed, model.backbone.net(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("window", "factor", "heights", "widths", "padded"),
    [
        (5, 2, [10, 10, 10, 4], [10] * 6, (544, 960)),
        (5, 3, [15, 15, 6], [15] * 4, (576, 960)),
        (5, 4, [20, 16], [20] * 3, (576, 960)),
        (9, 3, [27, 9], [27, 27, 6], (576, 960)),
        (9, 4, [36], [36, 24], (576, 960)),  # one row of two regions of 576 px
    ],
)
def test_regions_of_a_small_frame_by_hand(
    window: int, factor: int, heights: list[int], widths: list[int], padded: tuple[int, int]
) -> None:
    grid = RegionGrid(960, 540, window, factor)
    assert (grid.heights.tolist(), grid.widths.tolist()) == (heights, widths)
    assert (grid.padded_height_px, grid.padded_width_px) == padded


def test_low_regions_share_a_cell_of_the_packed_image_by_hand() -> None:
    """Beneath a full region of 4 x 4 patches lie, side by side, three low ones of a patch each."""
    grid = RegionGrid(256, 64, window=1, factor=4)
    layout = packed_layout(grid, np.array([[False, True, True, True]]))
    assert (layout.rows, layout.cols) == (5, 4)
    assert [(group.factor, group.corners) for group in layout.groups] == [
        (1, ((0, 0),)),
        (4, ((4, 0), (4, 1), (4, 2))),
    ]


@pytest.mark.parametrize(("factor", "first", "other"), [(3, 1 + 1, 4 + 7), (4, 1.5 + 1.5, 5.5 + 9.5)])
def test_low_pixels_are_area_means_by_hand(factor: int, first: float, other: float) -> None:
    """The pixel in row y and column x is y + x."""
    side = 16 * factor
    image = np.repeat(np.add.outer(np.arange(side), np.arange(side)).astype(np.uint8)[..., None], 3, axis=2)
    grid, low = RegionGrid(side, side, 1, factor), np.array([[True]])
    (patch,) = unpack(pack(image, grid, low), grid, low)
    assert patch[0, 0].tolist() == [first] * 3
    assert patch[1, 2].tolist() == [other] * 3


@pytest.mark.parametrize(("factor", "expected"), [(3, [11.0, 14.0]), (4, [16.5, 20.5])])
def test_absolute_positions_of_low_tokens_are_means_by_hand(factor: int, expected: list[float]) -> None:
    """The position in row r and column c is 10 r + c; a region covers `factor` of each."""
    grid = RegionGrid(32 * factor, 16 * factor, window=1, factor=factor)
    table = (10.0 * torch.arange(factor)[:, None] + torch.arange(2 * factor))[..., None]
    layout = mixed_layout(grid, np.array([[True, True]]), CPU)
    assert layout.positions(table)[:, 0].tolist() == expected


@pytest.mark.parametrize(("factor", "size", "centres"), [(3, 6, [1.0, 4.0]), (4, 8, [1.5, 5.5])])
def test_coarse_relative_positions_are_those_of_the_centres(factor: int, size: int, centres: list[float]) -> None:
    """A table that says the distance: a coarse coordinate lies in the middle of those that it stands for."""
    distances = torch.arange(-(size - 1), float(size))[:, None]
    table = with_coarse(relative_table(distances, size), factor)[..., 0]
    places = torch.tensor([*range(size), *centres])
    torch.testing.assert_close(table, places[:, None] - places[None, :])


@pytest.mark.parametrize(
    ("factor", "cells", "expected"), [(3, [0, 6], [0, 0, 2, 4, 6, 6]), (4, [0, 8], [0, 0, 1, 3, 5, 7, 8, 8])]
)
def test_restoration_is_bilinear_by_hand(factor: int, cells: list[float], expected: list[float]) -> None:
    region = torch.tensor(cells).float().view(1, 1, 2, 1)
    torch.testing.assert_close(upsample(region, factor)[0, 0, :, 0], torch.tensor(expected).float())


def test_the_identity_of_a_model_says_its_window_and_its_factor() -> None:
    ids = {
        (window, factor): load_detector("vitdet_tiny", window=window, downsampling_factor=factor).model_id
        for window in (None, 5, 9)
        for factor in (2, 4)
    }
    assert ids[None, 2] == ids[5, 2] == load_detector("vitdet_tiny").model_id
    assert len(set(ids.values())) == 4
