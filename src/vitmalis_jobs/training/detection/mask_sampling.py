"""Random mixed resolutions for training, so that the model knows whatever masks a client may send."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vitmalis.regions.grid import RegionGrid
from vitmalis.types import BoolMask


class Mixture(NamedTuple):
    """Which regions of a batch are downsampled, and where full resolution is restored.

    Attributes:
        downsample_mask: bool (rows, cols) of the grid, or None for plain full resolution.
        restoration_point: 0 to N, see `Configuration`.
    """

    downsample_mask: BoolMask | None
    restoration_point: int


FULL_RESOLUTION = Mixture(None, 0)


def random_mixture(rng: np.random.Generator, grid: RegionGrid, subsets: int, share: float) -> Mixture:
    """Draw a mixture for one batch.

    With probability `share` some regions are downsampled: each with a probability that is itself drawn for every batch,
    so that few and many downsampled regions are equally common; at least one is. The restoration point is uniform over
    0 to N.

    Args:
        rng: source of randomness.
        grid: regions of the batch's images.
        subsets: N.
        share: of the batches that are mixed, 0..1.
    """
    if rng.random() >= share:
        return FULL_RESOLUTION
    mask = rng.random(grid.shape) < rng.random()
    mask[tuple(rng.integers(grid.shape))] = True
    return Mixture(mask, int(rng.integers(subsets + 1)))
