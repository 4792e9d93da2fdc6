"""End-to-end latency of split inference, by the network and the durations of the virtual clock."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from vitmalis.client.events import StartOffload
from vitmalis.client.header import offload_header
from vitmalis.detector import preset
from vitmalis.detector.flops import rcnn_flops, vit_cost
from vitmalis.estimation.latency import LatencyTables
from vitmalis.network.traces import Trace
from vitmalis.offload import OffloadDecision
from vitmalis.regions.grid import ModelGeometry
from vitmalis.types import Configuration, Detections, Frame
from vitmalis.virtual.durations import Durations
from vitmalis.virtual.network import connect
from vitmalis.virtual.offload_timeline import simulate_offload
from vitmalis.virtual.server import AnsweredOffload
from vitmalis.virtual.testbed import FACTOR, FULL_HD, WINDOW

TESTBED_MODEL = "vitdet_l"
"""The model whose times the testbed has; the run's detector stands for it."""
_NO_PIXELS = np.zeros((1, 1, 3), np.uint8)  # of a frame whose payload is known
WHOLE_FRAME = OffloadDecision(Configuration(tau_d=0, quality=95, restoration_point=0))


def device_shares() -> list[float]:
    """Shares of the testbed model's operations up to each split: after the stem, and after each global block."""
    config = preset(TESTBED_MODEL).with_geometry(WINDOW, FACTOR)
    grid, vit = config.region_grid(*FULL_HD), config.vit
    whole = vit_cost(vit, grid)
    flops = [whole.stem_flops]
    for subsets in range(1, vit.subsets + 1):
        first = msgspec.structs.replace(vit, subsets=subsets, depth=subsets * vit.depth // vit.subsets)
        flops.append(vit_cost(first, grid).flops)
    return [part / (whole.flops + rcnn_flops(config, grid)) for part in flops]


class SplitDurations(Durations):
    """Durations of offloads of whole frames of which the device computes the first part of the model.

    Features take the time of a JPEG to encode and to decode.

    Args:
        tables: of the testbed.
        device_share: share of the model's operations before the split.
        device_factor: how many times as long as the server the device takes for the same operations.
    """

    def __init__(self, tables: LatencyTables, device_share: float, device_factor: float) -> None:
        super().__init__(tables)
        self._device_share, self._device_factor = device_share, device_factor

    def encode_s(self, offload_id: int, decision: OffloadDecision) -> float:
        """Time of the device: its part of the model, and encoding."""
        device_s = self._device_factor * self._device_share * super().inference_s(offload_id, decision)
        return device_s + super().encode_s(offload_id, decision)

    def inference_s(self, offload_id: int, decision: OffloadDecision) -> float:
        """Time of the server: the rest of the model."""
        return (1 - self._device_share) * super().inference_s(offload_id, decision)


def latencies_s(
    trace: Trace, payload_bytes: Sequence[int], durations: Durations, geometry: ModelGeometry, offloads: int
) -> list[float]:
    """End-to-end latencies of offloads at even distances over a trace, each on an idle link and an idle server.

    Args:
        trace: of the uplink; its period is covered.
        payload_bytes: of the frames, which are sent in turn.
        durations: of every stage.
        geometry: of the decision regions, for the headers.
        offloads: how many.
    """
    found = []
    for number in range(offloads):
        start_s = (number + 0.5) * trace.duration_s / offloads
        frame = Frame(number, start_s, _NO_PIXELS)
        header = offload_header(number, frame, WHOLE_FRAME, geometry)
        answer = AnsweredOffload(header, payload_bytes[number % len(payload_bytes)], Detections.empty())
        start, connection = StartOffload(number, frame, WHOLE_FRAME), connect("emulated", trace)
        sent = simulate_offload(start, answer, now_s=start_s, connection=connection, durations=durations)
        found.append(sent.received_s(start_s, connection) - sent.encode_start_s)
    return found
