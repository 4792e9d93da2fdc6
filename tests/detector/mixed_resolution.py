"""Small models, frames and layouts for tests of mixed resolution."""

import msgspec
import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from vitmalis.detector.config import VitConfig
from vitmalis.detector.mixed import MixedLayout, mixed_layout
from vitmalis.detector.vit import ViT
from vitmalis.regions.grid import RegionGrid

CPU = torch.device("cpu")
TINY = VitConfig(embed_dim=12, depth=6, num_heads=2, subsets=3, window=2, position_grid=(5, 4), relative_grid=3)
frame_sizes = st.tuples(st.integers(1, 200), st.integers(1, 200))


def make_vit(seed: int, **changes: object) -> ViT:
    """A small ViT whose every parameter is far from zero."""
    torch.manual_seed(seed)
    vit = ViT(msgspec.structs.replace(TINY, **changes)).eval().requires_grad_(False)
    for parameter in vit.parameters():
        parameter.add_(0.3 * torch.randn_like(parameter))
    return vit


def padded_noise(grid: RegionGrid, batch: int = 1) -> Tensor:
    return torch.randn(batch, 3, grid.padded_height_px, grid.padded_width_px)


def layout_of(grid: RegionGrid, mask: np.ndarray) -> MixedLayout:
    return mixed_layout(grid, mask, CPU)


def random_mask(grid: RegionGrid, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(grid.shape) < 0.5
