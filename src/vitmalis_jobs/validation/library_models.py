"""The plain ViTs that `library_baselines` compares: ours, and those of transformers, timm and detectron2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from vitmalis.detector.config import VitConfig
from vitmalis.detector.vit import ViT

WINDOW = 9
"""Side of attention windows in all of them, tokens."""


def ours(vit: VitConfig, height_px: int, width_px: int) -> nn.Module:
    """Our transformer; it takes any size."""
    return ViT(vit)


def transformers(vit: VitConfig, height_px: int, width_px: int) -> nn.Module:
    """Transformers' `VitDetBackbone`, relative positions made for this size: nothing has to be resized for them."""
    from transformers import VitDetBackbone, VitDetConfig

    config = VitDetConfig(
        image_size=(height_px, width_px),  # a pair is understood by its layers, though the type says int
        hidden_size=vit.embed_dim,
        num_hidden_layers=vit.depth,
        num_attention_heads=vit.num_heads,
        window_size=WINDOW,
        window_block_indices=_window_blocks(vit),
        use_relative_position_embeddings=True,
        use_absolute_position_embeddings=True,
    )
    return VitDetBackbone(config)


def timm(vit: VitConfig, height_px: int, width_px: int) -> nn.Module:
    """Timm's `samvit_base_patch16` and its larger ones (segment anything's ViT), the neck left out."""
    from timm import create_model

    size = {12: "base", 24: "large", 32: "huge"}[vit.depth]
    model = create_model(
        f"samvit_{size}_patch16", img_size=(height_px, width_px), window_size=WINDOW, neck_chans=0, num_classes=0
    )
    model.neck = nn.Identity()
    return _Features(model)


class _Features(nn.Module):
    """A model of timm up to its last features."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        """Features of an image (1, 3, H, W)."""
        features: Tensor = self.model.forward_features(image)
        return features


def detectron2(vit: VitConfig, height_px: int, width_px: int) -> nn.Module:
    """Detectron2's `ViT`, upstream's own module."""
    from detectron2.modeling.backbone.vit import ViT as UpstreamViT

    return UpstreamViT(
        img_size=1024,
        embed_dim=vit.embed_dim,
        depth=vit.depth,
        num_heads=vit.num_heads,
        window_size=WINDOW,
        window_block_indexes=_window_blocks(vit),
        use_rel_pos=True,
        residual_block_indexes=[],
    )


def _window_blocks(vit: VitConfig) -> list[int]:
    return [block for block in range(vit.depth) if block not in vit.global_blocks]


MODELS: dict[str, Callable[[VitConfig, int, int], nn.Module]] = {
    "ours": ours,
    "transformers": transformers,
    "timm": timm,
    "detectron2": detectron2,
}
"""Name -> builder for a transformer and frames of a height and a width, pixels."""


def frozen(model: nn.Module) -> nn.Module:
    """The model as it predicts, with relative positions that are not zero."""
    for name, parameter in model.named_parameters():
        if "rel_pos" in name:
            nn.init.normal_(parameter, std=0.02)
    return model.eval().requires_grad_(False)
