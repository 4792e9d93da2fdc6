"""Structure of wrapped transformers: shared weights, subsets and windows, and errors for models that do not fit."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import timm
import torch
from timm.models.beit import Beit
from timm.models.vision_transformer import ParallelScalingBlock, ResPostBlock, VisionTransformer
from timm.models.vision_transformer_relpos import VisionTransformerRelPos
from torch import nn

from tests.detector.library_vits import SMALL, assert_near, features, noise, own_features, plain, sam, vitdet
from vitmalis.detector.adapters import wrap
from vitmalis.errors import UserError


def test_no_weight_is_copied() -> None:
    model = sam()
    ours = wrap(model)
    assert {id(p) for p in ours.parameters()} == {id(p) for p in model.parameters()}
    assert list(ours.state_dict()) == [f"model.{name}" for name in model.state_dict()]
    images = noise()
    for name in ("blocks.0.attn.rel_pos_h", "blocks.2.mlp.fc1.weight", "pos_embed"):
        before = features(ours, images)
        parameter = model.get_parameter(name)
        parameter.add_(0.3 * torch.randn_like(parameter))
        assert (features(ours, images) - before).abs().max() > 1e-3, name
    assert_near(features(ours, images), own_features(model, images))


def test_subsets_are_the_global_blocks() -> None:
    assert wrap(sam()).restoration_blocks == (1, 3)
    assert wrap(sam(depth=6, global_attn_indexes=(1, 2, 5)), subsets=3).restoration_blocks == (1, 2, 5)
    assert wrap(plain(depth=8)).restoration_blocks == (1, 3, 5, 7)
    assert wrap(plain()).window == 9
    with pytest.raises(UserError, match="the model has 2 global blocks, not 4 subsets; leave subsets out"):
        wrap(sam(), subsets=4)
    with pytest.raises(UserError, match="4 blocks do not fall into 3 equal subsets"):
        wrap(plain(), subsets=3)
    with pytest.raises(UserError, match="window must be at least 1"):
        wrap(sam(), window=0)
    with pytest.raises(UserError, match="no block that attends globally"):
        wrap(sam(global_attn_indexes=()))
    with pytest.raises(UserError, match="factor must be at least 1"):
        wrap(sam(), downsampling_factor=0)


class OverlappingPatches(VisionTransformer):
    def __init__(self) -> None:
        super().__init__(**SMALL)
        self.patch_embed.proj = nn.Conv2d(3, 24, 18, stride=16, padding=1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Linear(3, 3), "Linear does not have the structure of a known vision transformer"),
        (partial(Beit, **SMALL), "Beit does not have the structure of a known vision transformer"),
        (partial(VisionTransformerRelPos, **SMALL), "VisionTransformerRelPos does not have the structure"),
        (lambda: timm.create_model("vit_small_r26_s32_224"), "its patch_embed .HybridEmbed. has 'backbone' .ResNetV2."),
        (partial(sam, use_rel_pos=False, use_rope=True), "has 'rope_global' .RotaryEmbeddingCat., for which"),
        (partial(plain, attn_layer="diff"), "block 0: attn .DiffAttention. has 'sub_norm' .RmsNorm., for which"),
        (partial(plain, block_fn=ResPostBlock), "block 0 .ResPostBlock. computes something else than a ViTDet block"),
        (partial(plain, block_fn=ParallelScalingBlock), r"block 0 .ParallelScalingBlock. has no 'norm1'"),
        (partial(vitdet, residual_block_indices=[1]), "block 1 .VitDetLayer. has 'residual' .VitDetResBottleneckBlock"),
        (OverlappingPatches, r"a convolution of \(18, 18\) with stride \(16, 16\) and padding \(1, 1\)"),
    ],
)
def test_unknown_structures_are_refused(make: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        wrap(make())


def test_points_images_and_masks_that_do_not_fit_are_refused() -> None:
    ours = wrap(sam())
    nothing = np.zeros((2, 2), bool)
    with pytest.raises(UserError, match="restoration point 3 does not exist; choose 0 to 2"):
        ours(noise(), nothing, 3)
    with pytest.raises(UserError, match=r"images are 120x128 px.*multiples of 16 px.*to 128x128"):
        ours(noise(120))
    with pytest.raises(UserError, match=r"images are 112x128 px.*multiples of 32 px.*to 128x128"):
        ours(noise(112), nothing)
    with pytest.raises(UserError, match=r"downsample mask is bool \(3, 3\)"):
        ours(noise(), np.zeros((3, 3), bool))
