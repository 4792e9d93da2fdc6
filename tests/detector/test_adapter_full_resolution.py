"""Wrapped transformers of other libraries give the libraries' own features where nothing is low."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.detector.library_vits import (
    MODELS,
    POINTS,
    SIDE_PX,
    Detectron2ViT,
    assert_near,
    features,
    noise,
    own_features,
    vitdet,
    wrapped,
)
from vitmalis.detector.adapters import wrap


@pytest.mark.parametrize("name", MODELS)
def test_full_resolution_equals_the_library(name: str) -> None:
    ours, model = wrapped(name)
    images = noise()
    expected = own_features(model, images)
    assert_near(features(ours, images), expected)
    nothing = np.zeros(ours.region_grid(SIDE_PX, SIDE_PX).shape, bool)
    for point in POINTS:
        assert_near(features(ours, images, nothing, point), expected)


@pytest.mark.parametrize("name", ["sam", "sam, window 3", "dinov2", "deit", "transformers", "detectron2, window 3"])
@pytest.mark.parametrize(("height", "width"), [(96, 224), (160, 64)])
def test_other_image_sizes_equal_the_library(name: str, height: int, width: int) -> None:
    """Absolute and relative positions are resized, by each library in its own way."""
    ours, model = wrapped(name)
    images = noise(height, width, 1)
    expected = own_features(model, images)
    assert_near(features(ours, images), expected)
    assert_near(features(ours, images, np.zeros(ours.region_grid(height, width).shape, bool), 2), expected)


@pytest.mark.parametrize("name", MODELS)
def test_a_factor_of_one_equals_the_library(name: str) -> None:
    ours, model = wrapped(name, downsampling_factor=1)
    images = noise()
    expected = own_features(model, images)
    shape = ours.region_grid(SIDE_PX, SIDE_PX).shape
    some = np.random.default_rng(1).random(shape) < 0.5
    for mask, point in product((np.ones(shape, bool), some), POINTS):
        assert_near(features(ours, images, mask, point), expected)


def test_detectron2_weights_give_detectron2_features(golden: Path) -> None:
    """Weights and features of detectron2 itself, under its names."""
    config = vitdet(
        hidden_size=48,
        num_hidden_layers=8,
        num_attention_heads=3,
        image_size=256,
        pretrain_image_size=224,
        window_size=9,
        window_block_indices=[0, 2, 4, 6],
    ).config
    model = Detectron2ViT(config).eval()
    prefix = "backbone.net."
    state = torch.load(golden / "golden_tiny.pt", weights_only=True)
    model.load_state_dict({name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)})
    ours = wrap(model)
    arrays = np.load(golden / "golden_tiny.npz")
    mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    for name in ("img0", "img1"):
        pixels = ((torch.from_numpy(arrays[f"{name}/image"]).float() - mean) / std).permute(2, 0, 1)[None]
        found = features(ours, pixels)
        torch.testing.assert_close(found, torch.from_numpy(arrays[f"{name}/last_feat"]), rtol=0, atol=1e-4)
