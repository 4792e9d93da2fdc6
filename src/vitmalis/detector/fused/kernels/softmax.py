"""Softmax over keys that come in blocks, as FlashAttention has it: weights are relative to the highest score so far."""

# mypy: allow-untyped-defs
from __future__ import annotations

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)

LOWEST = tl.constexpr(-1e30)
"""Score of keys that a query does not have, and of queries that have seen none; finite, so that differences are too."""


@triton.jit
def attend(scores, offset, value, highest, total, attended, PRECISION: tl.constexpr):
    """Take a block of keys into the sums of a tile of queries.

    Args:
        scores: (queries, keys).
        offset: what every score of a query is raised by: (queries,), or 0.
        value: (keys, channels).
        highest, total: (queries,), the highest score so far and the sum of weights.
        attended: (queries, channels), the weighted sum of values.

    Returns:
        The new `highest`, `total` and `attended`.
    """
    new = tl.maximum(highest, tl.max(scores, 1) + offset)
    weights = tl.exp2(scores * LOG2E - ((new - offset) * LOG2E)[:, None])
    fade = tl.exp2((highest - new) * LOG2E)
    total = total * fade + tl.sum(weights, 1)
    attended = tl.dot(weights.to(value.dtype), value, attended * fade[:, None], input_precision=PRECISION)
    return new, total, attended
