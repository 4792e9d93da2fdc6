"""Check the emulated link against its trace and against Mahimahi: `python -m validation.link`.

Messages of several sizes are uploaded through the real relay process and compared with `EmulatedConnection`, the
arithmetic of the virtual clock; that arithmetic is then compared with Mahimahi's logged uploads if those are present.
The result is one JSON object on standard output and in `runs/profiling/link/<time>/result.json`; progress goes to
standard error. Exit status 1: the median of a case is outside the bar.
"""

from __future__ import annotations

import json
import os
import random
import socket
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import psutil
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from vitmalis.errors import UserError
from vitmalis.names import check_path_part
from vitmalis.network.addresses import split_address
from vitmalis.network.emulation.path import EmulatedConnection, EmulatedPath
from vitmalis.network.traces import Trace, resolve_trace, save_trace
from vitmalis.process import Child
from vitmalis_jobs.common.cli import hydra_job
from vitmalis_jobs.common.config import Count, NotNegative, Section, checked
from vitmalis_jobs.common.job_output import emit
from vitmalis_jobs.common.machine_load import LoadMeter
from vitmalis_jobs.validation.mahimahi_logs import compare_frames, compare_uploads

TIMEOUT_S = 120.0
TraceOption = Literal[
    "kind", "technology", "index", "source", "seed", "path", "mbps", "rtt_ms", "capacity_scale", "rtt_scale", "start_s"
]
"""Arguments of `resolve_trace`."""


class Case(Section, frozen=True):
    """One entry of `cases`: a trace and the transport over it."""

    transport: str
    trace: dict[TraceOption, str | float]

    def resolve(self) -> Trace:
        """The trace of this case; raises `UserError` for a trace or transport that cannot be emulated."""
        trace = resolve_trace(**self.trace)  # type: ignore[arg-type]
        EmulatedPath(trace, self.transport)
        return trace


class LinkOptions(Section, frozen=True):
    """Configuration of the job, as in `conf/profile_link.yaml`."""

    sizes_bytes: Annotated[list[Count], msgspec.Meta(min_length=1)]
    repeats: Count
    pause_s: NotNegative
    seed: int
    bar_ms: tuple[float, float]
    cases: dict[str, Case]
    mahimahi_folder: str


class Receiver(threading.Thread):
    """A server for one connection that records when each expected message is complete, and answers it with a byte."""

    def __init__(self, sizes_bytes: Sequence[int]) -> None:
        super().__init__(name="receiver", daemon=True)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sizes = sizes_bytes
        self.received_s: list[float] = []
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"

    def run(self) -> None:
        """Receive until the last expected message or the end of the connection."""
        with self._listener, self._listener.accept()[0] as client:
            client.settimeout(TIMEOUT_S)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for size in self._sizes:
                missing = size
                while missing:
                    data = client.recv(min(missing, 65536))
                    if not data:
                        return
                    missing -= len(data)
                self.received_s.append(time.monotonic())
                client.sendall(b"\0")


def upload_all(address: str, sizes_bytes: Sequence[int], pause_s: float, seed: int) -> list[float]:
    """Upload messages, each after the answer to the one before; return when each was sent, monotonic s."""
    pauses = random.Random(seed)
    sent_s = []
    with socket.create_connection(split_address(address), TIMEOUT_S) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for size in sizes_bytes:
            time.sleep(pause_s * (1 + pauses.random()))
            payload = bytes(size)
            sent_s.append(time.monotonic())
            client.sendall(payload)
            if not client.recv(1):
                raise UserError("the relay closed the connection during the measurement; see its log")
    return sent_s


def measure_case(
    trace: Trace, transport: str, sizes_bytes: Sequence[int], options: LinkOptions, folder: Path
) -> dict[str, Any]:
    """Upload messages of these sizes through a relay; report how late they arrive, and what the relay costs."""
    folder.mkdir(parents=True, exist_ok=True)
    save_trace(trace, folder / "trace.csv")
    receiver = Receiver(sizes_bytes)
    receiver.start()
    arguments = ["--upstream", receiver.address, "--trace", str(folder / "trace.csv"), "--transport", transport]
    with Child("relay", "vitmalis.network.emulation", arguments, folder / "relay.log") as relay:
        address = relay.wait_ready()["ready"]
        process = psutil.Process(relay.pid)
        before = process.cpu_times()
        sent_s = upload_all(address, sizes_bytes, options.pause_s, options.seed)
        after = process.cpu_times()
        relay.stop()
        summary = json.loads(relay.stdout.read().splitlines()[-1])["summary"]
    predicted_s = predict(trace, transport, summary["trace_origin_s"], sent_s, sizes_bytes)
    uploads_s = [received - sent for received, sent in zip(receiver.received_s, sent_s, strict=True)]
    excess_ms = [1e3 * (received - due) for received, due in zip(receiver.received_s, predicted_s, strict=True)]
    return {
        "transport": transport,
        "mean_mbps": round(trace.mean_mbps(), 2),
        "uploads": len(uploads_s),
        "upload_median_ms": median_by_size(sizes_bytes, [1e3 * value for value in uploads_s]),
        "excess_ms": percentiles(excess_ms),
        "excess_median_ms": median_by_size(sizes_bytes, excess_ms),
        "relay_cpu_share": round((after.user + after.system - before.user - before.system) / sum(uploads_s), 3),
        "release_lateness_ms": {"p50": summary["lateness_p50_ms"], "p99": summary["lateness_p99_ms"]},
    }


def predict(
    trace: Trace, transport: str, origin_s: float, sent_s: Sequence[float], sizes_bytes: Sequence[int]
) -> list[float]:
    """When each message should reach the server over an emulated connection, monotonic s.

    Args:
        trace: the uplink.
        transport: `ideal` or `tcp`.
        origin_s: when the trace's clock started, monotonic s.
        sent_s: when each message was sent, monotonic s, in order.
        sizes_bytes: size of each message.
    """
    connection = EmulatedConnection(EmulatedPath(trace, transport))
    # The relay reads the first byte some microseconds after it was sent, and the trace's clock starts only then.
    return [
        origin_s + connection.upload(max(0.0, at_s - origin_s), size)
        for at_s, size in zip(sent_s, sizes_bytes, strict=True)
    ]


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """5th, 50th and 95th percentile, linearly interpolated."""
    return {f"p{percent}": round(float(np.percentile(values, percent)), 2) for percent in (5, 50, 95)}


def median_by_size(sizes_bytes: Sequence[int], values: Sequence[float]) -> dict[str, float]:
    """Median of the values that belong to each size."""
    groups: dict[int, list[float]] = {}
    for size, value in zip(sizes_bytes, values, strict=True):
        groups.setdefault(size, []).append(value)
    return {str(size): round(statistics.median(group), 2) for size, group in sorted(groups.items())}


def calibrate(options: LinkOptions, folder: Path) -> dict[str, Any]:
    """Measure all cases and, where its logs are, compare with Mahimahi; `passed`: every median is inside the bar."""
    sizes = options.sizes_bytes * options.repeats
    random.Random(options.seed).shuffle(sizes)
    for name in options.cases:
        check_path_part("cases", name)
    traces = {name: case.resolve() for name, case in options.cases.items()}  # mistakes are found before measuring
    cases = {}
    for name, trace in traces.items():
        cases[name] = measure_case(trace, options.cases[name].transport, sizes, options, folder / name)
        print(f"{name}: excess p50 {cases[name]['excess_ms']['p50']} ms", file=sys.stderr)
    low_ms, high_ms = options.bar_ms
    result = {
        "passed": all(low_ms <= case["excess_ms"]["p50"] <= high_ms for case in cases.values()),
        "bar_ms": [low_ms, high_ms],
        "load_average_1min": round(os.getloadavg()[0], 2),
        "cases": cases,
    }
    if (logs := Path(options.mahimahi_folder)).is_dir():
        result["mahimahi"] = {"uploads": compare_uploads(logs), "frames": compare_frames(logs)}
    else:
        print(f"mahimahi_folder {logs} is absent: no comparison with Mahimahi", file=sys.stderr)
    return result


@hydra_job(
    "profile_link",
    {
        "": "a few minutes",
        "repeats=2 sizes_bytes=[50000]": "a quick look",
    },
)
def main(config: DictConfig) -> bool:
    """Calibrate the link, print and store the result; False when a median is outside the bar."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    meter = LoadMeter()
    result = calibrate(checked(config, LinkOptions), folder)
    emit(result, folder / "result.json", meter.load())
    return bool(result["passed"])


if __name__ == "__main__":
    sys.exit(main())
