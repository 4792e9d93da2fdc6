"""The emulated link's arithmetic compared with uploads that were timed in Mahimahi itself (`link` in `paths.data`)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vitmalis.network.emulation.path import EmulatedConnection, EmulatedPath
from vitmalis.network.traces import Trace, load_trace

TRANSPORTS = ("ideal", "tcp")
MIN_BYTES = 50_000  # the time of smaller uploads is nearly all propagation

KINDS = {
    ("const", "warm"): "constant rate, open window",
    ("const", "fresh"): "constant rate, new connection",
    ("const", "idle"): "constant rate, after idling",
    ("vary", "fresh"): "varying rate, new connection",
    ("vary", "idle"): "varying rate, after idling",
}
"""Kinds of uploads by (rate of the trace, state of the connection before), and their names in the result."""


def compare_uploads(folder: Path) -> dict[str, dict[str, dict[str, float]]]:
    """|ratio to Mahimahi's upload time - 1| by kind and transport: median and worst over (trace, phase, size)."""
    rows = pd.read_csv(folder / "mahimahi_reference.csv")
    rows = rows[rows.cc == "cubic"].reset_index(drop=True)
    for transport in TRANSPORTS:
        rows[transport] = predict_uploads(rows, folder / "traces", transport)
    rows = rows[rows.blob_bytes >= MIN_BYTES]
    varying = rows.trace.str.startswith("vary")
    rows["rate"] = np.where(varying, "vary", "const")
    rows["phase"] = np.where(varying, rows.start_offset_ms.round(-2), 0)
    keys = ["rate", "mode", "trace", "phase", "blob_bytes"]
    medians = rows.groupby(keys)[["upload_ms", *TRANSPORTS]].median().reset_index()
    result: dict[str, dict[str, dict[str, float]]] = {}
    for (rate, mode), name in KINDS.items():
        group = medians[(medians.rate == rate) & (medians["mode"] == mode)]
        errors = {transport: (group[transport] / group.upload_ms - 1).abs() for transport in TRANSPORTS}
        result[name] = {
            transport: {"median": round(float(error.median()), 4), "worst": round(float(error.max()), 4)}
            for transport, error in errors.items()
        }
    return result


def predict_uploads(rows: pd.DataFrame, traces: Path, transport: str) -> list[float]:
    """Upload time of each row, ms, in order; rows of mode `idle` and `warm` reuse the connection of the row before."""
    loaded = {name: load_trace(traces / name) for name in rows.trace.unique()}
    columns = zip(
        rows.trace, rows["mode"], rows.one_way_delay_ms, rows.t_since_trace_start_ms, rows.blob_bytes, strict=True
    )
    predicted = []
    connection = None
    previous = ("", "")
    for name, mode, delay_ms, sent_ms, size in columns:
        if connection is None or "fresh" in (mode, previous[1]) or name != previous[0]:
            trace = with_rtt(loaded[name], 2 * delay_ms)
            connection = EmulatedConnection(EmulatedPath(trace, transport))
        previous = (name, mode)
        predicted.append(connection.upload(sent_ms / 1e3, size) * 1e3 - sent_ms)
    return predicted


def with_rtt(trace: Trace, rtt_ms: float) -> Trace:
    """The trace with the same opportunities and another round-trip time, which Mahimahi's traces do not have."""
    return replace(trace, rtt_ms=np.full(len(trace), rtt_ms))


def compare_frames(folder: Path) -> dict[str, dict[str, float]]:
    """|age at the server - Mahimahi's age| of frames sent at a fixed rate, ms: median and 90th percentile."""
    rows = pd.read_csv(folder / "mahimahi_stream.csv")
    rows = rows[rows.cc == "cubic"].reset_index(drop=True)
    result = {}
    for transport in TRANSPORTS:
        errors = np.concatenate(
            [
                np.abs(predict_frames(stream, folder / "traces", transport) - stream.upload_ms.to_numpy())
                for _, stream in rows.groupby((rows.frame == 0).cumsum())  # one connection per stream
            ]
        )
        result[transport] = {
            "median_ms": round(float(np.median(errors)), 2),
            "p90_ms": round(float(np.percentile(errors, 90)), 2),
        }
    return result


def predict_frames(stream: pd.DataFrame, traces: Path, transport: str) -> NDArray[np.float64]:
    """Upload time of each frame of one stream, which uses one connection, ms."""
    first = stream.iloc[0]
    trace = with_rtt(load_trace(traces / first.trace), 2 * float(first.one_way_delay_ms))
    connection = EmulatedConnection(EmulatedPath(trace, transport))
    sent_ms = stream.t_since_trace_start_ms.to_numpy()
    sent = zip(sent_ms, stream.blob_bytes, strict=True)
    return np.array([connection.upload(at / 1e3, size) * 1e3 for at, size in sent]) - sent_ms
