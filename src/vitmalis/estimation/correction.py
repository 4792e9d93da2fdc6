"""Correction of estimated payload sizes by those of past offloads: an extension of equation 1, off by default.

The texture of a scene affects its payload size, but is not among the inputs of equation 1. The device learns it with
every offload: where the last payload was a third larger than estimated, the next will be, too.
"""

from __future__ import annotations


class SizeCorrection:
    """Factor on estimated payloads: a running mean of actual over estimated sizes.

    Args:
        weight: of the newest offload, 0..1; 0 never corrects, 1 uses the last offload alone.
        largest: limit of the factor, and of its inverse.

    Raises:
        ValueError: a weight outside 0..1 or a limit below 1.
    """

    def __init__(self, weight: float = 1.0, largest: float = 3.0) -> None:
        if not 0 <= weight <= 1 or not largest >= 1:
            raise ValueError(f"weight {weight} must be in 0..1 and largest {largest} at least 1")
        self._weight, self._largest = weight, largest
        self.factor = 1.0

    def observe(self, estimated_bytes: float, actual_bytes: float) -> None:
        """Learn from a finished offload.

        Args:
            estimated_bytes: the estimate without the factor, positive.
            actual_bytes: size of the payload that was sent, positive.
        """
        ratio = min(max(actual_bytes / estimated_bytes, 1 / self._largest), self._largest)
        # A geometric mean, as half and twice are equally wrong.
        self.factor = self.factor ** (1 - self._weight) * ratio**self._weight
