"""How a batch of frames with different masks is cut into launches: frames that share one are padded to equal length."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter

from vitmalis.detector.fused.plan import PLAIN

LAUNCH_FLOPS = 5e11
"""What one more launch costs, in operations that the GPU would do in that time.

About 2 ms with the prototype on an H200: 0.5 ms of the transformer (ViT-L and -B) that do not depend on the number of
tokens, and 1.5 ms for choosing boxes, which takes as long for one frame as for several. In that time 1100 more tokens
would have been computed by ViT-L (0.6e12 operations), 2700 by ViT-B (0.4e12).
"""


def launches(buckets: Sequence[int], padding_flops: float) -> list[list[int]]:
    """Cut a batch into launches so that their number and their padding cost least together.

    The frames of a launch are padded to the largest of their buckets. Frames without downsampled regions share one
    launch, the last: their attention is another kernel, and full resolution is what they would be padded to.

    Args:
        buckets: of each frame, see `plan.bucket_of`.
        padding_flops: operations that one token of padding costs.

    Returns:
        For each launch the places of its frames in the batch, largest bucket first.
    """
    places = sorted(range(len(buckets)), key=buckets.__getitem__, reverse=True)
    mixed = [place for place in places if buckets[place] != PLAIN]
    plain = places[len(mixed) :]
    cheapest: list[tuple[float, list[list[int]]]] = [(0.0, [])]  # for the first frames: cost, and launches
    for end in range(1, len(mixed) + 1):
        ways = []
        for start, (cost, before) in enumerate(cheapest):
            group = mixed[start:end]
            padding = sum(buckets[group[0]] - buckets[place] for place in group)
            ways.append((cost + LAUNCH_FLOPS + padding * padding_flops, [*before, group]))
        cheapest.append(min(ways, key=itemgetter(0)))
    return cheapest[-1][1] + ([plain] if plain else [])
