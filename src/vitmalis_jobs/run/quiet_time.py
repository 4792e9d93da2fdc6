"""Inference in a real-time run compared with what it takes on this machine when it is quiet."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from statistics import median

import numpy as np

from vitmalis.errors import UserError
from vitmalis.estimation.latency import LatencyTables
from vitmalis.offload import OffloadDecision, TokenCaching
from vitmalis.records import OffloadRecord
from vitmalis.types import Configuration, OffloadStatus
from vitmalis.virtual.durations import Durations


def slowdown(
    offloads: Sequence[OffloadRecord], server_s: float | None = None, tables: LatencyTables | None = None
) -> float | None:
    """Duration of inference relative to that on the quiet machine, 1 for the same; None if it cannot be known.

    Two durations stand for the quiet machine, and the shorter one counts. The latency tables, which are kept only if
    they were measured on a quiet machine, show a lower clock frequency, and a GPU that others use. The processor time
    of the server shows that it had to wait for a processor; with one thread it needs as much as inference takes.

    Args:
        offloads: records of the run.
        server_s: processor time of the server for their decoding and inference, seconds; None if it is unknown, or if
            inference is on another device than the processor.
        tables: of this machine and the run's model, with stages; None if there are none.
    """
    answered = [offload for offload in offloads if offload.status == OffloadStatus.OK and offload.inference_s]
    if not answered:
        return None
    ratios = []
    if server_s:
        ratios.append(sum((o.inference_s or 0.0) + (o.decode_s or 0.0) for o in answered) / server_s)
    if tables is not None:
        with suppress(UserError):  # a policy of the user's own may decide what was not profiled
            durations = Durations(tables)
            expected_s = [durations.inference_s(0, as_decided(offload)) for offload in answered]
            if all(expected_s):
                ratios.append(median((o.inference_s or 0.0) / s for o, s in zip(answered, expected_s, strict=True)))
    return max(ratios, default=None)


def as_decided(offload: OffloadRecord) -> OffloadDecision:
    """The decision of an offload as far as durations depend on it: the number of regions, not which ones."""
    configuration = Configuration(
        tau_d=offload.tau_d, quality=offload.quality, restoration_point=offload.restoration_point
    )
    positions = np.arange(offload.regions)[None]
    cached = positions >= offload.regions - offload.cached_regions
    return OffloadDecision(
        configuration,
        downsample_mask=positions < offload.downsampled_regions if offload.downsampled_regions else None,
        blank_mask=positions < offload.blank_regions if offload.blank_regions else None,
        coarse_mask=np.ones((1, 1), bool) if offload.coarse_blocks else None,
        frame_downsampling=offload.frame_downsampling,
        caching=TokenCaching(mask=cached) if cached.any() else None,
    )
