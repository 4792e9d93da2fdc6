"""Our backbone under the weights of the transformers library's ViTDet gives its features; random, no download."""

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import VitDetBackbone, VitDetConfig, VitDetModel

from vitmalis.detector.config import VitConfig
from vitmalis.detector.vit import ViT

FEATURES = 1e-4
KEYS = (
    ("embeddings.projection.", "patch_embed.proj."),
    ("embeddings.position_embeddings", "pos_embed"),
    ("encoder.layer.", "blocks."),
    (".attention.", ".attn."),
)
"""Their names and ours for the same tensors."""


def theirs(kind: type[nn.Module] = VitDetModel, **config: Any) -> nn.Module:
    usual = {
        "hidden_size": 32,
        "num_hidden_layers": 6,
        "num_attention_heads": 2,
        "image_size": 160,  # global blocks hold positions for 10 x 10 tokens
        "pretrain_image_size": 112,  # absolute positions for 7 x 7
        "window_size": 4,
        "window_block_indices": [0, 1, 3, 4],
        "use_relative_position_embeddings": True,
    }
    torch.manual_seed(7)
    model = kind(VitDetConfig(**{**usual, **config}))
    for name, parameter in model.named_parameters():
        gain = "norm" in name and name.endswith("weight")
        nn.init.normal_(parameter, mean=float(gain), std=0.3 if "rel_pos" in name else 0.1)
    return model.eval().requires_grad_(False)


def ours(model: Any) -> ViT:
    config = model.config
    vit = ViT(
        VitConfig(
            embed_dim=config.hidden_size,
            depth=config.num_hidden_layers,
            num_heads=config.num_attention_heads,
            subsets=2,
            window=config.window_size,
            position_grid=(7, 7),
            relative_positions=config.use_relative_position_embeddings,
            relative_grid=10,
        )
    )
    state = {}
    for name, value in model.state_dict().items():
        for old, new in KEYS:
            name = name.replace(old, new)
        state[name] = value
    vit.load_state_dict(state)
    return vit.eval()


def error(model: Any, images: Tensor, expected: Tensor) -> float:
    assert expected.std() > 0.1
    with torch.inference_mode():
        return float((ours(model)(images) - expected).abs().max())


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("window", [4, 3])
@pytest.mark.parametrize(("height", "width"), [(160, 160), (112, 112), (96, 208), (240, 80)])
def test_features(height: int, width: int, window: int, relative: bool) -> None:
    """Both kinds of positions as they are and resized; windows that fit and that leave a border."""
    model = theirs(window_size=window, use_relative_position_embeddings=relative)
    images = torch.randn(2, 3, height, width)
    with torch.inference_mode():
        assert error(model, images, model(images).last_hidden_state) < FEATURES


def test_backbone_gives_the_last_block_unless_configured_otherwise() -> None:
    images = torch.randn(1, 3, 128, 96)
    backbone = theirs(VitDetBackbone)
    with torch.inference_mode():
        (last,) = backbone(images).feature_maps
        early, final = theirs(VitDetBackbone, out_features=["stage3", "stage6"])(images).feature_maps
    assert error(backbone, images, last) < FEATURES
    assert torch.equal(final, last)
    seen: list[Tensor] = []
    vit = ours(backbone)
    vit.blocks[2].register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    with torch.inference_mode():
        vit(images)
    tokens = early.flatten(2).transpose(1, 2)
    assert float((seen[0].view_as(tokens) - tokens).abs().max()) < FEATURES


@pytest.mark.parametrize("tensor", ["encoder.layer.0.attention.rel_pos_h", "encoder.layer.2.attention.rel_pos_w"])
def test_the_comparison_notices_a_wrong_table(tensor: str) -> None:
    model = theirs()
    images = torch.randn(1, 3, 160, 160)
    with torch.inference_mode():
        expected = model(images).last_hidden_state
    model.get_parameter(tensor)[3] += 0.05
    assert error(model, images, expected) > FEATURES


def test_the_library_does_without_them() -> None:
    """Other libraries' models may be wrapped and compared with, but neither timm nor transformers is a dependency."""
    code = (
        "import sys, vitmalis.detector.adapters, vitmalis.detector; "
        "sys.exit(bool({'timm', 'transformers', 'detectron2'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode == 0
