"""Wrapped transformers at mixed resolution, compared with our own ViT and with references of the library's blocks."""

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from timm.models.vision_transformer_sam import VisionTransformerSAM
from torch import Tensor

from tests.detector.library_vits import (
    MODELS,
    POINTS,
    SIDE_PX,
    assert_near,
    features,
    noise,
    own_features,
    wrapped,
)
from vitmalis.detector.config import VitConfig
from vitmalis.detector.mixed import mixed_layout
from vitmalis.detector.vit import ViT

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["sam", "sam, window 3", "transformers", "detectron2"])
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("window", [None, 4])
def test_mixed_resolution_equals_our_vit(name: str, point: int, window: int | None) -> None:
    """Our own ViT has the same weights, with windows of the library's size and of another."""
    wrapper, theirs = wrapped(name, window=window)
    own = 3 if "3" in name else 2
    timm = isinstance(theirs, VisionTransformerSAM)
    ours = ViT(
        VitConfig(
            embed_dim=24,
            depth=4,
            num_heads=2,
            subsets=2,
            window=window or own,
            relative_window=own,
            position_grid=(8, 8),
            class_position=not timm,
            relative_grid=8,
        )
    ).eval()
    ours.load_state_dict(our_names(theirs.state_dict()))
    images = noise()
    grid = wrapper.region_grid(SIDE_PX, SIDE_PX)
    for seed in range(3):
        mask = np.random.default_rng(seed).random(grid.shape) < 0.6
        mask[0, 0] = True
        with torch.inference_mode():
            expected = ours(images, mixed_layout(grid, mask, CPU), point)
        found = features(wrapper, images, mask, point)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-5 if timm else 1e-4)
        assert (found - features(wrapper, images)).abs().max() > 0.01


def our_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename a library's tensors as ours are named, without those that our ViT does not have."""
    pairs = (
        ("embeddings.projection", "patch_embed.proj"),
        ("embeddings.position_embeddings", "pos_embed"),
        ("encoder.layer", "blocks"),
        (".attention.", ".attn."),
    )
    renamed = {}
    for name, value in state.items():
        for old, new in pairs:
            name = name.replace(old, new)
        if name == "pos_embed":
            value = value.flatten(1, -2)
        if name.startswith(("pos_embed", "patch_embed", "blocks")):
            renamed[name] = value
    return renamed


def reference_plain(model: Any, images: Tensor, mask: np.ndarray, first: int) -> Tensor:
    """Mixed resolution by timm's own modules, one region of 4 x 4 patches at a time; full from block `first` on."""
    table = model.pos_embed[0] if model.no_embed_class else model.pos_embed[0, model.num_prefix_tokens :]
    table = table.unflatten(0, (8, 8))
    halved = F.avg_pool2d(images, 2)
    parts = []
    for row, col in product(range(2), range(2)):
        size = 2 if mask[row, col] else 4
        source = halved if mask[row, col] else images
        pixels = source[:, :, row * size * 16 :, col * size * 16 :][:, :, : size * 16, : size * 16]
        cells = table[row * 4 : row * 4 + 4, col * 4 : col * 4 + 4]
        if mask[row, col]:
            cells = (cells[::2, ::2] + cells[1::2, ::2] + cells[::2, 1::2] + cells[1::2, 1::2]) / 4
        parts.append((model.patch_embed.proj(pixels).permute(0, 2, 3, 1) + cells).flatten(1, 2))
    prefix = torch.cat([part for part in (model.cls_token, model.reg_token) if part is not None], dim=1)
    if not model.no_embed_class:
        prefix = prefix + model.pos_embed[:, : model.num_prefix_tokens]
    count = prefix.shape[1]
    sequence = model.blocks[:first](torch.cat([prefix.expand(len(images), -1, -1), *parts], dim=1))
    whole = torch.empty(len(images), 8, 8, sequence.shape[2])
    at = count
    for (row, col), part in zip(product(range(2), range(2)), parts, strict=True):
        size = 2 if mask[row, col] else 4
        region = sequence[:, at : at + part.shape[1]].unflatten(1, (size, size)).permute(0, 3, 1, 2)
        region = F.interpolate(region, size=(4, 4), mode="bilinear", align_corners=False)
        whole[:, row * 4 : row * 4 + 4, col * 4 : col * 4 + 4] = region.permute(0, 2, 3, 1)
        at += part.shape[1]
    restored = torch.cat([sequence[:, :count], whole.flatten(1, 2)], dim=1)
    tokens = model.norm(model.blocks[first:](restored))[:, count:]
    return tokens.unflatten(1, (8, 8)).permute(0, 3, 1, 2)


@pytest.mark.parametrize("name", ["deit", "deit 3", "dinov2", "dinov2, positions of registers"])
@pytest.mark.parametrize("mask", [[[True, True], [True, True]], [[False, True], [True, False]]])
def test_class_tokens_take_part_and_are_not_restored(name: str, mask: list[list[bool]]) -> None:
    ours, model = wrapped(name)
    images = noise()
    low = np.array(mask)
    for point, first in ((1, 1), (2, 3)):
        with torch.inference_mode():
            expected = reference_plain(model, images, low, first)
        assert_near(features(ours, images, low, point), expected)


def test_pixels_are_restored_at_point_0() -> None:
    ours, model = wrapped("sam")
    images = noise()
    low = np.array([[True, True], [True, True]])
    regions = [
        F.interpolate(F.avg_pool2d(row, 2), scale_factor=2, mode="bilinear", align_corners=False)
        for part in images.split(64, 2)
        for row in part.split(64, 3)
    ]
    blurred = torch.cat([torch.cat(regions[:2], 3), torch.cat(regions[2:], 3)], 2)
    assert_near(features(ours, images, low, 0), own_features(model, blurred))


@pytest.mark.parametrize("name", MODELS)
def test_mixed_masks_give_finite_features(name: str) -> None:
    ours, _ = wrapped(name)
    grid = ours.region_grid(SIDE_PX, 160)
    mask = np.arange(grid.shape[0] * grid.shape[1]).reshape(grid.shape) % 2 == 0
    for point in POINTS:
        found = features(ours, noise(SIDE_PX, 160), mask, point)
        assert found.shape == (2, 24, grid.patch_rows, grid.patch_cols)
        assert found.isfinite().all()
