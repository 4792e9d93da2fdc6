"""Frames of different masks in one batch are what they are one by one."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.detector.mixed_resolution import layout_of, make_vit, padded_noise
from vitmalis.detector.batched_layout import MixedBatch
from vitmalis.detector.build import build_model
from vitmalis.detector.config import preset
from vitmalis.detector.mixed import MixedLayout
from vitmalis.detector.vit import ViT
from vitmalis.errors import UserError
from vitmalis.regions.grid import RegionGrid


def equal_counts(grid: RegionGrid, seed: int, frames: int) -> list[np.ndarray]:
    """Random masks of a random share of low regions, all with as many tokens as the first."""
    rng = np.random.default_rng(seed)
    share, masks = rng.random(), []
    for _ in range(40 * frames):
        mask = rng.random(grid.shape) < share
        if not masks or grid.tokens(mask) == grid.tokens(masks[0]):
            masks.append(mask)
    return masks[:frames]


def one_by_one(vit: ViT, images: Tensor, layouts: list[MixedLayout], point: int) -> Tensor:
    return torch.cat([vit(image, own, point) for image, own in zip(images.split(1), layouts, strict=True)])


@settings(max_examples=40)
@given(
    size=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    window=st.integers(1, 4),
    factor=st.integers(1, 4),
    relative=st.booleans(),
    stem=st.sampled_from(["linear", "hierarchical"]),
    frames=st.integers(1, 4),
    point=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_a_batch_of_masks_is_one_by_one(
    size: tuple[int, int], window: int, factor: int, relative: bool, stem: str, frames: int, point: int, seed: int
) -> None:
    vit = make_vit(0, window=window, relative_positions=relative, stem=stem)
    grid = RegionGrid(*size, window, factor)
    layouts = [layout_of(grid, mask) for mask in equal_counts(grid, seed, frames)]
    images = padded_noise(grid, batch=len(layouts))
    together = vit(images, MixedBatch.of(layouts), point)
    torch.testing.assert_close(together, one_by_one(vit, images, layouts, point), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("relative", "point"), list(product([False, True], range(4))))
def test_regions_of_other_shapes_may_make_up_the_same_number(relative: bool, point: int) -> None:
    """One whole region of 4 x 4 patches or two halves: 36 tokens either way, in 9 or in 10 windows."""
    grid = RegionGrid(128, 96, window=2)
    masks = [np.array([[True, False], [False, False]]), np.array([[False, False], [True, True]])]
    layouts = [layout_of(grid, mask) for mask in masks]
    assert [layout.tokens for layout in layouts] == [36, 36]
    assert [len(layout.attention.slot_token) // 4 for layout in layouts] == [9, 10]
    vit = make_vit(1, relative_positions=relative)
    images = padded_noise(grid, batch=2)
    together = vit(images, MixedBatch.of(layouts), point)
    torch.testing.assert_close(together, one_by_one(vit, images, layouts, point), rtol=1e-5, atol=1e-4)
    assert not torch.allclose(together, one_by_one(vit, images, layouts[::-1], point), atol=1e-3)


def test_only_equal_numbers_of_tokens_share_a_batch() -> None:
    grid = RegionGrid(128, 128, window=2)
    masks = [np.arange(4).reshape(2, 2) < low for low in (1, 2)]
    with pytest.raises(UserError, match="one size and number of tokens make a batch, not 128x128 with 52 tokens, 128x"):
        MixedBatch.of([layout_of(grid, masks[0]), layout_of(grid, masks[1])])
    with pytest.raises(UserError, match="not none"):
        MixedBatch.of([])


@pytest.mark.parametrize("point", [0, 2, 4])
def test_boxes_of_patches_in_a_batch(point: int) -> None:
    """Pixels of two resolutions beyond the frame count as zero in every frame of the batch, each by its own mask."""
    torch.manual_seed(0)
    model = build_model(preset("vitdet_tiny")).eval().requires_grad_(False)
    grid = model.config.region_grid(200, 330)
    masks = [np.zeros(grid.shape, bool) for _ in range(2)]
    masks[0][0, 0] = masks[1][0, 1] = True
    images = 255 * torch.rand(2, 3, 200, 330)
    batch = MixedBatch.of([layout_of(grid, mask) for mask in masks])
    padded = torch.full((2, 3, grid.padded_height_px, grid.padded_width_px), 99.0)
    padded[:, :, :200, :330] = images
    with torch.inference_mode():
        alone = [model.predict(image, mask, point)[0] for image, mask in zip(images.split(1), masks, strict=True)]
        from_patches = model.predict_patches(batch.cut(padded), batch, point)
    for ours, theirs in zip(from_patches, alone, strict=True):
        assert len(ours) == len(theirs) > 0
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-5)
        np.testing.assert_allclose(ours.boxes_xyxy, theirs.boxes_xyxy, atol=1e-2)
