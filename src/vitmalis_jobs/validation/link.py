"""Calibrate the emulated link: `python -m validation.link` (configuration: conf/profile_link.yaml).

Uploads several sizes through the real relay process and compares each with `EmulatedConnection`, the arithmetic of the
virtual clock; then compares that arithmetic with Mahimahi's logged uploads where those are present. One JSON object
goes to standard output and to `runs/profiling/link/<time>/result.json`, progress to standard error.
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
from typing import Any

import hydra
import psutil
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from vitmalis.errors import UserError
from vitmalis.network.emulation.path import EmulatedConnection, EmulatedPath
from vitmalis.network.traces import Trace, resolve_trace, save_trace
from vitmalis.process import Child
from vitmalis_jobs.common.config import conf_dir
from vitmalis_jobs.common.job_output import emit
from vitmalis_jobs.validation.mahimahi_logs import compare_frames, compare_uploads

PATIENCE_S = 120.0


class Receiver(threading.Thread):
    """Takes one connection and notes when each expected message is complete; answers each with a byte."""

    def __init__(self, sizes_bytes: Sequence[int]) -> None:
        super().__init__(name="receiver", daemon=True)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sizes = sizes_bytes
        self.received_s: list[float] = []
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"

    def run(self) -> None:
        """Receive until the last message or the end of the connection."""
        with self._listener, self._listener.accept()[0] as client:
            client.settimeout(PATIENCE_S)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for size in self._sizes:
                left = size
                while left:
                    data = client.recv(min(left, 65536))
                    if not data:
                        return
                    left -= len(data)
                self.received_s.append(time.monotonic())
                client.sendall(b"\0")


def upload_all(address: str, sizes_bytes: Sequence[int], pause_s: float, seed: int) -> list[float]:
    """Upload one message after the other, each after the answer to the one before; return when each was sent, s."""
    pauses = random.Random(seed)
    host, port = address.removeprefix("tcp://").split(":")
    sent_s = []
    with socket.create_connection((host, int(port)), PATIENCE_S) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for size in sizes_bytes:
            time.sleep(pause_s * (1 + pauses.random()))
            payload = bytes(size)
            sent_s.append(time.monotonic())
            client.sendall(payload)
            if not client.recv(1):
                raise UserError("the relay closed the connection during the measurement; see its log")
    return sent_s


def measure(
    trace: Trace, transport: str, sizes_bytes: Sequence[int], config: DictConfig, folder: Path
) -> dict[str, Any]:
    """Upload through a relay; return how late messages arrive after their prediction (ms), and what the relay cost."""
    folder.mkdir(parents=True, exist_ok=True)
    save_trace(trace, folder / "trace.csv")
    receiver = Receiver(sizes_bytes)
    receiver.start()
    arguments = ["--upstream", receiver.address, "--trace", str(folder / "trace.csv"), "--transport", transport]
    with Child("relay", "vitmalis.network.emulation", arguments, folder / "relay.log") as relay:
        address = relay.wait_ready()["ready"]
        process = psutil.Process(relay.pid)
        before = process.cpu_times()
        sent_s = upload_all(address, sizes_bytes, config.pause_s, config.seed)
        after = process.cpu_times()
        relay.stop()
        summary = json.loads(relay.stdout.read().splitlines()[-1])["summary"]
    connection = EmulatedConnection(EmulatedPath(trace, transport))
    origin_s = summary["trace_origin_s"]
    # The first byte is read some microseconds after it was sent, and nothing is sent before time 0.
    predicted_s = [
        origin_s + connection.upload(max(0.0, at - origin_s), size)
        for at, size in zip(sent_s, sizes_bytes, strict=True)
    ]
    uploads_s = [got - sent for got, sent in zip(receiver.received_s, sent_s, strict=True)]
    excess_ms = [1e3 * (got - due) for got, due in zip(receiver.received_s, predicted_s, strict=True)]
    return {
        "transport": transport,
        "mean_mbps": round(trace.mean_mbps, 2),
        "uploads": len(uploads_s),
        "upload_median_ms": median_by_size(sizes_bytes, [1e3 * value for value in uploads_s]),
        "excess_ms": quantiles(excess_ms),
        "excess_median_ms": median_by_size(sizes_bytes, excess_ms),
        "relay_cpu_share": round((after.user + after.system - before.user - before.system) / sum(uploads_s), 3),
        "release_lateness_ms": {"p50": summary["lateness_p50_ms"], "p99": summary["lateness_p99_ms"]},
    }


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """5th, 50th and 95th percentile."""
    cuts = statistics.quantiles(values, n=20, method="inclusive")
    return {"p5": round(cuts[0], 2), "p50": round(cuts[9], 2), "p95": round(cuts[18], 2)}


def median_by_size(sizes_bytes: Sequence[int], values: Sequence[float]) -> dict[str, float]:
    """Median of the values of each size."""
    groups: dict[int, list[float]] = {}
    for size, value in zip(sizes_bytes, values, strict=True):
        groups.setdefault(size, []).append(value)
    return {str(size): round(statistics.median(group), 2) for size, group in sorted(groups.items())}


def calibrate(config: DictConfig, folder: Path) -> dict[str, Any]:
    """All cases and, where its logs are, Mahimahi; `passed` says whether every median is inside the bar."""
    sizes = list(config.sizes_bytes) * config.repeats
    random.Random(config.seed).shuffle(sizes)
    cases = {}
    for name, case in config.cases.items():
        trace = resolve_trace(**OmegaConf.to_container(case.trace))  # type: ignore[arg-type]
        cases[name] = measure(trace, case.transport, sizes, config, folder / name)
        print(f"{name}: excess p50 {cases[name]['excess_ms']['p50']} ms", file=sys.stderr)
    low_ms, high_ms = config.bar_ms
    result = {
        "passed": all(low_ms <= case["excess_ms"]["p50"] <= high_ms for case in cases.values()),
        "bar_ms": [low_ms, high_ms],
        "load_average_1min": round(os.getloadavg()[0], 2),
        "cases": cases,
    }
    if (logs := Path(config.mahimahi_folder)).is_dir():
        result["mahimahi"] = {"uploads": compare_uploads(logs), "frames": compare_frames(logs)}
    else:
        print(f"mahimahi_folder {logs} is absent: no comparison with Mahimahi", file=sys.stderr)
    return result


@hydra.main(version_base=None, config_path=str(conf_dir()), config_name="profile_link")
def main(config: DictConfig) -> None:
    """Entry point; status 1 when a median is outside the bar."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        result = calibrate(config, folder)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    emit(result, folder / "result.json")
    if not result["passed"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
