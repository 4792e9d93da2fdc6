"""Estimate of the network and of the server's queue for the next offload (paper, section IV-E)."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from vitmalis.errors import UserError
from vitmalis.offload import OffloadOutcome

FloatArray = NDArray[np.float64]

HANDOVER = 0.1
"""Waits up to this share of the offload's own decoding and inference are those of an idle server, not for others."""


class NetworkEstimate:
    """Throughput and round-trip time, averaged over the most recent offloads, and the wait for the server's turn.

    Priors stand for them until the first result.

    Throughput is averaged over bytes: all bytes over all the time they took to pass. The plain mean of two rates would
    count a small payload, whose rate is mostly noise of its few milliseconds, as much as a large one.

    Args:
        prior_uplink_mbps, prior_rtt_ms: assumed until the first result.
        window: number of offloads that count; two in the paper.

    Raises:
        UserError: an argument is out of range.
    """

    def __init__(self, prior_uplink_mbps: float, prior_rtt_ms: float, window: int = 2) -> None:
        if prior_uplink_mbps <= 0:
            raise UserError(f"policy.prior_uplink_mbps={prior_uplink_mbps}: give a positive number")
        if prior_rtt_ms < 0:
            raise UserError(f"policy.prior_rtt_ms={prior_rtt_ms}: give a number that is not negative")
        if window < 1:
            raise UserError(f"policy.network_window={window}: give 1 or more")
        self._prior_uplink_mbps = prior_uplink_mbps
        self._prior_rtt_s = prior_rtt_ms * 1e-3
        self._recent: deque[OffloadOutcome] = deque(maxlen=window)

    def observe(self, outcome: OffloadOutcome) -> None:
        """Update the estimate with a finished offload."""
        self._recent.append(outcome)

    @property
    def uplink_mbps(self) -> float:
        """Estimated throughput of the next upload, Mbps."""
        if not self._recent:
            return self._prior_uplink_mbps
        transfer_s = max(sum(outcome.transfer_s for outcome in self._recent), 1e-6)
        return max(sum(outcome.payload_bytes for outcome in self._recent) * 8e-6 / transfer_s, 1e-6)

    @property
    def rtt_s(self) -> float:
        """Estimated L^net, the propagation both ways, seconds."""
        if not self._recent:
            return self._prior_rtt_s
        return sum(outcome.rtt_s for outcome in self._recent) / len(self._recent)

    def queue_s(self, arrival_s: FloatArray) -> FloatArray:
        """Expected waiting at the server, seconds (n,), by the latest result; 0 until there is one.

        An offload that waited had its turn once the server was done with others. An earlier one would have
        had its turn no earlier: what it saves of the upload, it waits.

        Args:
            arrival_s: when offloads reach the server, from the start of their encoding (n,).
        """
        if not self._recent:
            return np.zeros_like(arrival_s)
        last = self._recent[-1]
        if last.queue_s <= HANDOVER * (last.decode_s + last.inference_s):
            return np.full_like(arrival_s, last.queue_s)
        turn_s = last.encode_s + last.transfer_s + last.rtt_s / 2 + last.queue_s
        return np.maximum(turn_s - arrival_s, 0.0)
