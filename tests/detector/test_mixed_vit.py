"""The ViT at mixed resolution: equal to the plain ViT without low regions, and restored at the given point."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.detector.mixed_resolution import frame_sizes, layout_of, make_vit, padded_noise, random_mask
from vitmalis.errors import UserError
from vitmalis.regions.grid import RegionGrid

stems = st.sampled_from(["linear", "hierarchical"])


@settings(max_examples=25)
@given(
    size=frame_sizes,
    window=st.integers(1, 4),
    factor=st.integers(1, 4),
    patch_px=st.sampled_from([8, 16]),
    relative=st.booleans(),
    stem=stems,
    point=st.integers(0, 3),
)
def test_an_empty_mask_equals_the_plain_vit(
    size: tuple[int, int], window: int, factor: int, patch_px: int, relative: bool, stem: str, point: int
) -> None:
    """Every step of two resolutions runs here, without a low token."""
    vit = make_vit(0, window=window, relative_positions=relative, stem=stem, patch_px=patch_px)
    grid = RegionGrid(*size, window, factor, patch_px)
    images = padded_noise(grid, batch=2)
    mixed = vit(images, layout_of(grid, np.zeros(grid.shape, bool)), point)
    torch.testing.assert_close(mixed, vit(images), rtol=1e-5, atol=1e-5)


@settings(max_examples=25)
@given(
    size=frame_sizes,
    window=st.integers(1, 4),
    relative=st.booleans(),
    point=st.integers(0, 3),
    seed=st.one_of(st.none(), st.integers(0, 99)),
)
def test_a_factor_of_one_equals_the_plain_vit(
    size: tuple[int, int], window: int, relative: bool, point: int, seed: int | None
) -> None:
    """Low tokens that cover one patch each: everything, or a random part."""
    vit = make_vit(1, window=window, relative_positions=relative)
    grid = RegionGrid(*size, window, 1)
    images = padded_noise(grid)
    mask = np.ones(grid.shape, bool) if seed is None else random_mask(grid, seed)
    torch.testing.assert_close(vit(images, layout_of(grid, mask), point), vit(images), rtol=1e-5, atol=1e-5)


def test_pixels_of_one_region_stay_in_it_until_a_global_block() -> None:
    """Point 1 restores in front of the first global block, so tokens before it depend on their own region only."""
    vit = make_vit(4, depth=3, subsets=1)
    grid = RegionGrid(128, 96, window=2)
    layout = layout_of(grid, np.array([[True, True], [False, True]]))
    seen: list[Tensor] = []
    vit.blocks[2].register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].view(6, 8, -1)))
    images = padded_noise(grid)
    vit(images, layout, 1)
    images[:, :, :64, :64] += 1.0  # the upper left region
    vit(images, layout, 1)
    changed = (seen[0] != seen[1]).any(-1)
    assert changed[:4, :4].all()
    assert changed.sum() == 16


@pytest.mark.parametrize("point", [0, 1, 2, 3])
def test_restoration_points_divide_the_blocks(point: int) -> None:
    vit = make_vit(5)
    grid = RegionGrid(96, 64, window=2)
    layout = layout_of(grid, np.array([[True, False]]))
    seen: list[int] = []
    for block in vit.blocks:
        block.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].shape[1]))
    vit(padded_noise(grid), layout, point)
    mixed_blocks = {0: 0, 1: 1, 2: 3, 3: 5}[point]
    assert seen == [12] * mixed_blocks + [24] * (6 - mixed_blocks)


@pytest.mark.parametrize("point", [0, 1, 3])
def test_a_uniform_frame_has_the_same_features_at_mixed_resolution(point: int) -> None:
    """Without positions, tokens of one colour are equal at every resolution, if windows and frame are filled."""
    vit = make_vit(6, relative_positions=False)
    vit.pos_embed.zero_()
    grid = RegionGrid(128, 128, window=2)
    layout = layout_of(grid, np.array([[True, False], [False, True]]))
    image = torch.tensor([0.5, -1.0, 2.0]).view(1, 3, 1, 1).expand(1, 3, 128, 128)
    torch.testing.assert_close(vit(image, layout, point), vit(image), rtol=1e-4, atol=1e-5)


def test_a_batch_equals_its_images_one_by_one() -> None:
    vit = make_vit(7)
    grid = RegionGrid(200, 150, window=2)
    layout = layout_of(grid, random_mask(grid, 0))
    images = padded_noise(grid, batch=3)
    one_by_one = torch.cat([vit(image[None], layout, 2) for image in images])
    torch.testing.assert_close(vit(images, layout, 2), one_by_one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("point", [0, 1, 2, 3])
def test_every_parameter_gets_a_gradient(point: int) -> None:
    vit = make_vit(8).train().requires_grad_(True)
    grid = RegionGrid(200, 150, window=2)
    layout = layout_of(grid, random_mask(grid, 1))
    vit(padded_noise(grid), layout, point).square().mean().backward()
    for name, parameter in vit.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all()
        assert parameter.grad.any(), name


def test_points_masks_and_windows_that_do_not_fit_are_refused() -> None:
    vit = make_vit(10)
    grid = RegionGrid(128, 64, window=2)
    images, mask = padded_noise(grid), np.array([[True, False]])
    with pytest.raises(UserError, match="restoration point 4 does not exist; choose 0 to 3"):
        vit(images, layout_of(grid, mask), 4)
    other = layout_of(RegionGrid(128, 64, window=1, factor=4), mask)
    with pytest.raises(UserError, match="windows of 1, but the model has 16 px and 2"):
        vit(images, other, 1)
    with pytest.raises(UserError, match="downsample mask is bool"):
        layout_of(grid, np.array([[True]]))
