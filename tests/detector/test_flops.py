"""Counted by hand, and by PyTorch while the model runs."""

import msgspec
import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vitmalis.detector.config import DetectorConfig, PyramidConfig, RcnnConfig, VitConfig, preset
from vitmalis.detector.flops import merging_flops, rcnn_flops, vit_cost, windows
from vitmalis.detector.mixed import mixed_layout
from vitmalis.detector.pyramid import ViTDetBackbone
from vitmalis.detector.rcnn import BoxHeads
from vitmalis.detector.rpn import RpnHead
from vitmalis.detector.token_merging import MergingViT
from vitmalis.detector.vit import ViT
from vitmalis.regions.grid import RegionGrid

TINY = VitConfig(
    embed_dim=16, depth=4, num_heads=2, subsets=2, window=2, position_grid=(6, 8), relative_positions=False
)
GRID = RegionGrid(100, 70, window=2)  # 6 x 8 patches in regions of 4 x 4 and, below, 2 x 4
MASK = np.array([[True, False], [False, True]])


def test_by_hand() -> None:
    """Tokens: 16 / 4 + 16 + 8 + 8 / 4 = 30; windows: 1 + 4 + 2 + 1 = 8."""
    assert windows(GRID, MASK) == 8
    cost = vit_cost(TINY, GRID, MASK, 2)
    assert cost.tokens == (30, 30, 30, 48)
    assert cost.stem_flops == 30 * 2 * 768 * 16
    assert cost.linear_flops == (30 + 30 + 30 + 48) * 24 * 256
    assert cost.attention_flops == 2 * (8 * 4) * 4 * 4 * 16 + (30**2 + 48**2) * 4 * 16
    assert cost.flops == cost.stem_flops + cost.linear_flops + cost.attention_flops


@pytest.mark.parametrize("point", [0, 1])
def test_early_points_change_little(point: int) -> None:
    plain = vit_cost(TINY, GRID)
    assert plain.tokens == (48,) * 4
    assert (vit_cost(TINY, GRID, MASK, point) == plain) == (point == 0)


@pytest.mark.parametrize("stem", ["linear", "hierarchical"])
@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("mask", [None, MASK])
@pytest.mark.parametrize("point", [1, 2])
def test_pytorch_counts_the_same(stem: str, relative: bool, mask: np.ndarray | None, point: int) -> None:
    config = msgspec.structs.replace(TINY, stem=stem, relative_positions=relative)
    vit = ViT(config)
    layout = None if mask is None else mixed_layout(GRID, mask, torch.device("cpu"))
    images = torch.zeros(1, 3, GRID.padded_height_px, GRID.padded_width_px)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        vit(images, layout, point)
    assert counter.get_total_flops() == vit_cost(config, GRID, mask, point).flops


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("share", [1.0, 0.5])
def test_pytorch_counts_the_same_with_merged_tokens(relative: bool, share: float) -> None:
    config = msgspec.structs.replace(TINY, depth=6, window=4, relative_positions=relative)
    grid = RegionGrid(100, 70, window=4)  # 6 x 8 patches: two windows of 4 x 4 tokens, two of 2 x 4
    images = torch.zeros(1, 3, grid.padded_height_px, grid.padded_width_px)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        MergingViT(ViT(config), share)(images)
    matching = 2 * 2 * (8 * 8 + 4 * 4) * 2 * 8  # in two subsets, of two windows each, cosines of keys of 8 channels
    assert counter.get_total_flops() == merging_flops(config, grid, share) + (share < 1) * matching


def test_merging_saves_nothing_where_no_block_is_windowed() -> None:
    config = msgspec.structs.replace(TINY, subsets=4)
    assert merging_flops(config, GRID, 0.25) == vit_cost(config, GRID).flops


@pytest.mark.parametrize("strides", [(4, 8, 16, 32), (8, 16, 32)])
def test_pytorch_counts_the_same_behind_the_transformer(strides: tuple[int, ...]) -> None:
    head = RcnnConfig(proposals=5, box_convs=(16, 24), box_width=40, aspect_ratios=(1.0, 2.0))
    pyramid = PyramidConfig(strides=strides, channels=12)
    config = DetectorConfig(name="small", vit=TINY, pyramid=pyramid, head=head, classes=(0, 1, 2))
    grid = RegionGrid(240, 176, window=2)  # 11 rows and 15 columns, padded to 12 and 16
    backbone, rpn, boxes = ViTDetBackbone.of(config), RpnHead(12, 2), BoxHeads(config, head)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        levels = backbone.pyramid(torch.zeros(1, TINY.embed_dim, grid.patch_rows, grid.patch_cols))
        for level in levels:
            rpn(level)
        boxes.box_predictor(boxes.box_head(torch.zeros(5, 12, 7, 7)))
    assert counter.get_total_flops() == rcnn_flops(config, grid)


def test_operations_of_another_head_are_not_counted() -> None:
    config = preset("vitdet_tiny")
    with pytest.raises(TypeError, match="vitdet_tiny has no R-CNN head"):
        rcnn_flops(config, config.region_grid(540, 960))


def test_most_of_the_work_goes_with_the_tokens() -> None:
    """Everything low until the last subset: a quarter of the tokens in 7 of 8 blocks."""
    config = preset("vitdet_tiny")
    grid = config.region_grid(540, 960)
    cost = vit_cost(config.vit, grid, np.ones(grid.shape, bool), 4)
    assert cost.tokens == (510,) * 7 + (2040,)
    assert 0.2 < cost.flops / vit_cost(config.vit, grid).flops < 0.45
