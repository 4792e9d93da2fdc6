"""The estimated cost of an offload, by which clients share the detector."""

from __future__ import annotations

from vitmalis.network.wire.messages import Offload
from vitmalis.regions.grid import ModelGeometry

_FIXED = 50.0
"""Cost of a frame besides that of its tokens."""
_EVEN_TOKENS = 2600.0
"""Number of tokens at which global attention, quadratic in it, costs as much as all that is linear in it.

Both are fitted to `vitdet_tiny` on one core: 6 ms for 4 tokens, 13 for 60, 94 for 540, 162 for 960 and 433 for 2040
(estimated, at 0.12 ms a unit: 6, 13, 84, 163 and 442); 8160 tokens took 9 times as long as 2040 (estimated: 9).
"""


def estimated_cost(offload: Offload, geometry: ModelGeometry) -> float:
    """Cost of an offload's inference, in units of what is linear in one token.

    The shape of the frame and the treatments of its regions decide, no property of its pixels. A larger model costs
    less than estimated for large frames, since a smaller part of its work is global attention.
    """
    grid = geometry.grid(offload.width, offload.height)
    full = _backbone(grid.patch_rows * grid.patch_cols)
    regions = offload.regions
    if regions is None:
        return _FIXED + full
    mixed_share = offload.restoration_point / max(1, geometry.restoration_points)
    return _FIXED + mixed_share * _backbone(grid.tokens(regions)) + (1 - mixed_share) * full


def _backbone(tokens: int) -> float:
    return tokens + tokens**2 / _EVEN_TOKENS
