"""Estimate of the network and of the server's queue for the next offload (paper, section IV-E)."""

from __future__ import annotations

from collections import deque

from vitmalis.errors import UserError
from vitmalis.offload import SHORTEST_TRANSFER_S, OffloadOutcome


class NetworkEstimate:
    """Throughput, round-trip time and waiting at the server, averaged over the most recent offloads.

    Priors stand for them until the first result.

    Throughput is averaged over bytes: all bytes over all the time they took to pass. The plain mean of two rates would
    count a small payload, whose rate is mostly noise of its few milliseconds, as much as a large one. A payload that
    arrived together with its announcement (`SHORTEST_TRANSFER_S`) is left out where another one has a longer transfer.

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
        timed = [outcome for outcome in self._recent if outcome.transfer_s >= SHORTEST_TRANSFER_S] or self._recent
        transfer_s = sum(max(outcome.transfer_s, SHORTEST_TRANSFER_S) for outcome in timed)
        return max(sum(outcome.payload_bytes for outcome in timed) * 8e-6 / transfer_s, 1e-6)

    @property
    def rtt_s(self) -> float:
        """Estimated L^net, the propagation both ways, seconds."""
        if not self._recent:
            return self._prior_rtt_s
        return sum(outcome.rtt_s for outcome in self._recent) / len(self._recent)

    @property
    def queue_s(self) -> float:
        """Expected waiting at the server, seconds; 0 until the first result."""
        return sum(outcome.queue_s for outcome in self._recent) / max(len(self._recent), 1)
