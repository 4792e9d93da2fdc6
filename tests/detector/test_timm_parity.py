"""Our backbone under the weights of timm's transformers gives timm's features; random weights, so it runs anywhere."""

from functools import partial
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from timm.models.vision_transformer_sam import VisionTransformerSAM
from torch import Tensor, nn

from vitmalis.detector.config import VitConfig
from vitmalis.detector.vit import ViT

NORM = partial(nn.LayerNorm, eps=1e-6)
SIDE_PX = 128  # of the images that timm's tables are made for: 8 x 8 tokens


def randomised(model: nn.Module) -> nn.Module:
    """Every parameter is random, so that none can be forgotten: gains about 1, everything else about 0."""
    torch.manual_seed(3)
    for name, parameter in model.named_parameters():
        gain = "norm" in name and name.endswith("weight")
        nn.init.normal_(parameter, mean=float(gain), std=0.3 if "rel_pos" in name else 0.1)
    return model.eval()


def sam(window: int, global_blocks: tuple[int, ...], absolute: bool = True) -> nn.Module:
    return randomised(
        VisionTransformerSAM(
            img_size=SIDE_PX,
            embed_dim=32,
            depth=4,
            num_heads=2,
            window_size=window,
            global_attn_indexes=global_blocks,
            use_abs_pos=absolute,
            use_rel_pos=True,
            norm_layer=NORM,
            neck_chans=0,
            num_classes=0,
        )
    )


def ours(theirs: nn.Module, **config: Any) -> ViT:
    """Our transformer with timm's blocks and tables, loaded by the same names."""
    model = ViT(
        VitConfig(
            embed_dim=32,
            depth=4,
            num_heads=2,
            position_grid=(SIDE_PX // 16, SIDE_PX // 16),
            class_position=False,
            **config,
        )
    )
    state = {
        name: value
        for name, value in theirs.state_dict().items()
        if name == "pos_embed" or name.startswith(("patch_embed.", "blocks."))
    }
    state["pos_embed"] = state.get("pos_embed", torch.zeros_like(model.pos_embed)).reshape(model.pos_embed.shape)
    model.load_state_dict(state)
    return model.eval()


@torch.inference_mode()
def timm_features(theirs: nn.Module, images: Tensor) -> Tensor:
    """What leaves timm's last block: (B, C, rows, cols)."""
    seen: list[Tensor] = []
    hook = theirs.blocks[-1].register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    theirs(images)
    hook.remove()
    rows, cols = (side // 16 for side in images.shape[2:])
    return seen[0].reshape(len(images), rows, cols, -1).permute(0, 3, 1, 2)


def assert_same(model: ViT, theirs: nn.Module, images: Tensor) -> None:
    expected = timm_features(theirs, images)
    assert expected.std() > 0.1
    with torch.inference_mode():
        torch.testing.assert_close(model(images), expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("window", [4, 3, 5])
def test_sam_style(window: int) -> None:
    """Windows that divide the 8 x 8 tokens, and such that leave a border."""
    theirs = sam(window, (1, 3))
    model = ours(theirs, subsets=2, window=window, relative_grid=8)
    assert_same(model, theirs, torch.randn(2, 3, SIDE_PX, SIDE_PX))


@pytest.mark.parametrize(("height", "width"), [(96, 208), (160, 64)])
def test_sam_style_at_other_sizes(height: int, width: int) -> None:
    """Relative positions of global blocks are resized; absolute ones are not compared: timm smooths them, we do not."""
    theirs = sam(3, (1, 3), absolute=False)
    model = ours(theirs, subsets=2, window=3, relative_grid=8)
    assert_same(model, theirs, torch.randn(1, 3, height, width))


def test_every_block_global_without_relative_positions() -> None:
    """The plain transformer of DeiT and DINO, without a class token."""
    theirs = randomised(
        VisionTransformer(
            img_size=SIDE_PX,
            embed_dim=32,
            depth=4,
            num_heads=2,
            class_token=False,
            global_pool="avg",
            norm_layer=NORM,
            num_classes=0,
        )
    )
    model = ours(theirs, subsets=4, relative_positions=False)
    assert_same(model, theirs, torch.randn(2, 3, SIDE_PX, SIDE_PX))


def test_the_comparison_notices_a_wrong_table() -> None:
    theirs = sam(4, (1, 3))
    model = ours(theirs, subsets=2, window=4, relative_grid=8)
    with torch.no_grad():
        model.blocks[1].attn.rel_pos_w[3] += 0.05
    with pytest.raises(AssertionError, match="not close"):
        assert_same(model, theirs, torch.randn(1, 3, SIDE_PX, SIDE_PX))
