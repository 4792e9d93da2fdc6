"""Other libraries' transformers at mixed resolution: their own features when nothing is low, ours when it is."""

from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from timm.models.beit import Beit
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import (
    ParallelScalingBlock,
    ResPostBlock,
    VisionTransformer,
)
from timm.models.vision_transformer_relpos import VisionTransformerRelPos
from timm.models.vision_transformer_sam import VisionTransformerSAM
from torch import Tensor, nn
from transformers import VitDetConfig, VitDetModel
from transformers.models.vitdet.modeling_vitdet import VitDetAttention, VitDetLayer, VitDetMlp

from vitmalis.detector.adapters import MixedResolutionViT, wrap
from vitmalis.detector.config import VitConfig
from vitmalis.detector.mixed import mixed_layout
from vitmalis.detector.vit import ViT
from vitmalis.errors import UserError

CPU = torch.device("cpu")
SIDE_PX = 128  # 8 x 8 tokens
SMALL: dict[str, Any] = {"embed_dim": 24, "depth": 4, "num_heads": 2, "num_classes": 0, "img_size": SIDE_PX}
NORM = partial(nn.LayerNorm, eps=1e-5)
POINTS = range(3)


def randomised(model: nn.Module) -> nn.Module:
    """Every parameter is far from zero and from one, so that none can be forgotten."""
    torch.manual_seed(3)
    for name, parameter in model.named_parameters():
        gain = "norm" in name and name.endswith("weight")
        nn.init.normal_(parameter, mean=float(gain), std=0.3 if "rel_pos" in name or "gamma" in name else 0.15)
    return model.eval().requires_grad_(False)


def sam(**changes: Any) -> nn.Module:
    usual = {"window_size": 2, "global_attn_indexes": (1, 3), "use_rel_pos": True, "neck_chans": 8}
    return randomised(VisionTransformerSAM(**{**SMALL, **usual, **changes}))


def plain(**changes: Any) -> nn.Module:
    return randomised(VisionTransformer(**{**SMALL, "dynamic_img_size": True, **changes}))


def vitdet(**changes: Any) -> nn.Module:
    """The transformers library's, with its tables for 8 x 8 tokens in both roles."""
    config = {
        "hidden_size": 24,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "image_size": SIDE_PX,
        "pretrain_image_size": SIDE_PX,
        "use_relative_position_embeddings": True,
        "window_size": 2,
        "window_block_indices": [0, 2],
    }
    return randomised(VitDetModel(VitDetConfig(**{**config, **changes})))


def without_positions(model: nn.Module) -> nn.Module:
    """What `use_absolute_position_embeddings=False` asks for; transformers 5.23 cannot initialise such a model."""
    model.embeddings.position_embeddings = None
    return model


class Detectron2Attention(VitDetAttention):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[0]


class Detectron2Block(VitDetLayer):
    """Detectron2's names; it maps tokens (B, rows, cols, C), and its attention is called `attn`."""

    def __init__(self, config: VitDetConfig, window_size: int) -> None:
        super().__init__(config, window_size=window_size)
        del self.attention
        side = window_size or config.image_size // config.patch_size
        self.attn = Detectron2Attention(config, (side, side))
        self.mlp = VitDetMlp(config, config.hidden_size, int(config.hidden_size * config.mlp_ratio))

    @property
    def attention(self) -> Any:
        return lambda tokens, **_: (self.attn(tokens),)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 3, 1, 2))[0].permute(0, 2, 3, 1)


class Detectron2ViT(nn.Module):
    """A model with the structure of detectron2's `ViT`, which cannot be installed everywhere."""

    def __init__(self, config: VitDetConfig) -> None:
        super().__init__()
        self.source = [VitDetModel(config).embeddings]  # in a list, so that it is no part
        self.pretrain_use_cls_token = True
        self.pos_embed = self.source[0].position_embeddings
        self.patch_embed = nn.Module()
        self.patch_embed.proj = self.source[0].projection
        windows = [config.window_size * (i in config.window_block_indices) for i in range(config.num_hidden_layers)]
        self.blocks = nn.ModuleList(Detectron2Block(config, window) for window in windows)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.source[0](x).permute(0, 2, 3, 1)
        for block in self.blocks:
            x = block(x)
        return {"last_feat": x.permute(0, 3, 1, 2)}


def detectron2(**changes: Any) -> nn.Module:
    return randomised(Detectron2ViT(vitdet(**changes).config))


def own_features(model: nn.Module, images: Tensor) -> Tensor:
    """What the library's own code makes of images: (B, C, rows, cols)."""
    with torch.inference_mode():
        if isinstance(model, Detectron2ViT):
            return model(images)["last_feat"]
        if isinstance(model, VitDetModel):
            return model(images).last_hidden_state
        if isinstance(model, VisionTransformerSAM):
            return model.forward_intermediates(images, indices=1, intermediates_only=True)[-1]
        tokens = model.forward_features(images)[:, model.num_prefix_tokens :]
        rows, cols = (side // model.patch_embed.patch_size[0] for side in images.shape[2:])
        return tokens.unflatten(1, (rows, cols)).permute(0, 3, 1, 2)


def features(model: MixedResolutionViT, *arguments: Any) -> Tensor:
    with torch.inference_mode():
        return model(*arguments)


def noise(height: int = SIDE_PX, width: int = SIDE_PX, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(5))


def assert_near(found: Tensor, expected: Tensor) -> None:
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


MODELS = {
    "sam": sam,
    "sam, window 3": partial(sam, window_size=3),
    "sam, every block global": partial(sam, window_size=0),
    "sam, global first and last": partial(sam, global_attn_indexes=(0, 3)),
    "sam, layer scale": partial(sam, init_values=0.5),
    "sam, norms of queries and keys": partial(sam, qk_norm=True),
    "sam, no bias": partial(sam, qkv_bias=False, pre_norm=True),
    "sam, no positions": partial(sam, use_abs_pos=False, use_rel_pos=False),
    "sam, another norm and activation": partial(sam, norm_layer=NORM, act_layer=nn.SiLU),
    "deit": plain,
    "deit, distilled": lambda: randomised(VisionTransformerDistilled(**SMALL, dynamic_img_size=True)),
    "deit 3": partial(plain, no_embed_class=True, init_values=0.5),
    "dinov2": partial(plain, init_values=0.5, reg_tokens=2, no_embed_class=True),
    "dinov2, positions of registers": partial(plain, init_values=0.5, reg_tokens=2),
    "clip": partial(plain, pre_norm=True, norm_layer=NORM),
    "no class token": partial(plain, class_token=False, global_pool="avg"),
    "no positions": partial(plain, pos_embed="none"),
    "norms of queries, keys and heads": partial(plain, qk_norm=True, scale_attn_norm=True, scale_mlp_norm=True),
    "patch 8, no bias": partial(plain, patch_size=8, qkv_bias=False, img_size=64),
    "transformers": vitdet,
    "transformers, window 3": partial(vitdet, window_size=3, qkv_bias=False),
    "transformers, no positions": lambda: without_positions(vitdet(use_relative_position_embeddings=False)),
    "detectron2": detectron2,
    "detectron2, window 3": partial(detectron2, window_size=3),
}


def wrapped(name: str, **settings: Any) -> tuple[MixedResolutionViT, nn.Module]:
    model = MODELS[name]()
    all_global = not any(getattr(block, "window_size", 0) for block in getattr(model, "blocks", ())) and not isinstance(
        model, VitDetModel
    )
    return wrap(model, **({"subsets": 2, "window": 2} if all_global else {}), **settings), model


@pytest.mark.parametrize("name", MODELS)
def test_nothing_low_is_the_library(name: str) -> None:
    ours, model = wrapped(name)
    images = noise()
    expected = own_features(model, images)
    assert_near(features(ours, images), expected)
    nothing = np.zeros(ours.region_grid(SIDE_PX, SIDE_PX).shape, bool)
    for point in POINTS:
        assert_near(features(ours, images, nothing, point), expected)


@pytest.mark.parametrize("name", ["sam", "sam, window 3", "dinov2", "deit", "transformers", "detectron2, window 3"])
@pytest.mark.parametrize(("height", "width"), [(96, 224), (160, 64)])
def test_other_sizes_are_the_library(name: str, height: int, width: int) -> None:
    """Positions of both kinds are resized, by each library in its way."""
    ours, model = wrapped(name)
    images = noise(height, width, 1)
    expected = own_features(model, images)
    assert_near(features(ours, images), expected)
    assert_near(features(ours, images, np.zeros(ours.region_grid(height, width).shape, bool), 2), expected)


@pytest.mark.parametrize("name", MODELS)
def test_a_factor_of_one_is_the_library(name: str) -> None:
    ours, model = wrapped(name, downsampling_factor=1)
    images = noise()
    expected = own_features(model, images)
    shape = ours.region_grid(SIDE_PX, SIDE_PX).shape
    some = np.random.default_rng(1).random(shape) < 0.5
    for mask, point in product((np.ones(shape, bool), some), POINTS):
        assert_near(features(ours, images, mask, point), expected)


@pytest.mark.parametrize("name", ["sam", "sam, window 3", "transformers", "detectron2"])
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("window", [None, 4])
def test_mixed_resolution_is_ours(name: str, point: int, window: int | None) -> None:
    """The same weights in our own transformer, with windows of their size and of another."""
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
    """Our names for a library's tensors, without those that ours has no place for."""
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
    """Mixed resolution by timm's own modules, region after region of 4 x 4 patches; blocks before `first` see it."""
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


def test_upstream_features(golden: Path) -> None:
    """Detectron2's own weights and features, under its names."""
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


class Overlapping(VisionTransformer):
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
        (Overlapping, r"a convolution of \(18, 18\) with stride \(16, 16\) and padding \(1, 1\)"),
    ],
)
def test_what_cannot_be_wrapped_is_refused(make: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        wrap(make())


def test_what_does_not_fit_is_refused() -> None:
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
