"""Uplink traces: what the network can carry at each moment, where traces come from, and the files they are kept in."""

from vitmalis.network.traces.capacity import AUTO, FULL_HD, capacity_scale
from vitmalis.network.traces.io import load_trace, save_mahimahi, save_trace
from vitmalis.network.traces.opportunities import OPPORTUNITY_BYTES
from vitmalis.network.traces.resolve import (
    DRAWN,
    GENERATED,
    TYPICAL,
    TraceIndex,
    drawn_start_s,
    resolve_trace,
    typical_index,
)
from vitmalis.network.traces.trace import Trace, constant_trace

__all__ = [
    "AUTO",
    "DRAWN",
    "FULL_HD",
    "GENERATED",
    "OPPORTUNITY_BYTES",
    "TYPICAL",
    "Trace",
    "TraceIndex",
    "capacity_scale",
    "constant_trace",
    "drawn_start_s",
    "load_trace",
    "resolve_trace",
    "save_mahimahi",
    "save_trace",
    "typical_index",
]
