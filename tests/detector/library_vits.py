"""Small vision transformers of other libraries, with random weights, and the features that these libraries compute."""

from functools import partial
from typing import Any

import torch
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer
from timm.models.vision_transformer_sam import VisionTransformerSAM
from torch import Tensor, nn
from transformers import VitDetConfig, VitDetModel
from transformers.models.vitdet.modeling_vitdet import VitDetAttention, VitDetLayer, VitDetMlp

from vitmalis.detector.adapters import MixedResolutionViT, wrap

SIDE_PX = 128  # 8 x 8 tokens
SMALL: dict[str, Any] = {"embed_dim": 24, "depth": 4, "num_heads": 2, "num_classes": 0, "img_size": SIDE_PX}
NORM = partial(nn.LayerNorm, eps=1e-5)
POINTS = range(3)


def randomised(model: nn.Module) -> nn.Module:
    """Set every parameter far from zero and from one, so that leaving one out shows."""
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
    """The transformers library's ViTDet, with position tables for 8 x 8 tokens in both roles."""
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
    """Remove positions; transformers 5.23 cannot initialise a model with `use_absolute_position_embeddings=False`."""
    model.embeddings.position_embeddings = None
    return model


class Detectron2Attention(VitDetAttention):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[0]


class Detectron2Block(VitDetLayer):
    """A block with detectron2's names: it maps tokens (B, rows, cols, C), and its attention is called `attn`."""

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
        self.source = [VitDetModel(config).embeddings]  # in a list, so that it is not registered as a submodule
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


def own_features(model: nn.Module, images: Tensor) -> Tensor:
    """Features that the library's own code computes from images: (B, C, rows, cols)."""
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
