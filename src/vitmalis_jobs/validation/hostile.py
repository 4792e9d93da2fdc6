"""Attacks on a server while an honest client is served: `python -m validation.hostile`.

Damaged messages, idle connections, claimed ids, sessions by the thousand and messages without end are sent to a real
server process, one kind after the other. Meanwhile one client offloads frame after frame over one connection. The
result is one JSON object on standard output and in `runs/profiling`; `missed` names the bars that were missed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from vitmalis.codec.jpeg import encode_jpeg
from vitmalis.command_line import CommandLine
from vitmalis.network.wire import messages as m
from vitmalis.network.wire.client_endpoint import ClientEndpoint
from vitmalis.network.wire.events import Disconnected, FailureReceived, ResultReceived
from vitmalis.process import Child, raise_descriptor_limit
from vitmalis.regions import ModelGeometry
from vitmalis.types import Configuration
from vitmalis_jobs.common.arguments import check_positive
from vitmalis_jobs.common.cli import job_parser, option_job
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.job_output import emit
from vitmalis_jobs.validation.fuzz import BATCH, Attacker, served_geometry
from vitmalis_jobs.validation.raw_peer import GREETING, frame, hello, plain, router_id, zmtp

BARS = {"crashes": 0, "growth_mb": 50, "waited_inferences": 2.0, "disconnected": 0, "unanswered": 0}
"""Most that each of these results may be."""
SIZE = (320, 192)
"""Width and height of the honest client's frames."""
WARM_UP_OFFLOADS = 20
CLAIMED_IDS = 64
FLOOD_PARTS = 20_000
SETTLE_S = 70.0
"""Time after the attacks before memory is measured: the server returns what is free once a minute."""


@dataclass(slots=True)
class Served:
    """What an honest client has met: durations of its answered offloads in seconds, and what went wrong."""

    answer_s: list[float] = field(default_factory=list)
    inference_s: list[float] = field(default_factory=list)
    failed: int = 0
    disconnected: int = 0

    def waited_inferences(self) -> float:
        """Longest time that an answer took without its own inference, in multiples of the slowest inference."""
        waits = [answer - inference for answer, inference in zip(self.answer_s, self.inference_s, strict=True)]
        return max(waits, default=float("inf")) / max(self.inference_s, default=1.0)


class HonestClient(threading.Thread):
    """A client that sends the next frame once the last one is answered, until it is stopped."""

    def __init__(self, address: str, geometry: ModelGeometry) -> None:
        super().__init__(name="honest client", daemon=True)
        self.served = Served()
        self._address, self._geometry = address, geometry
        image = np.random.default_rng(0).integers(0, 255, (SIZE[1], SIZE[0], 3), np.uint8)
        self._jpeg = encode_jpeg(image, 75)
        self._stopping = threading.Event()

    def run(self) -> None:
        """Offload one frame after the other over one connection."""
        seq, sent_s = 0, 0.0
        with ClientEndpoint("honest") as client:
            client.connect(self._address)
            while not self._stopping.is_set():
                for event in client.poll(0.2):
                    if isinstance(event, Disconnected):
                        self.served.disconnected += 1
                        continue
                    if isinstance(event, ResultReceived):
                        self.served.answer_s.append(event.received_s - sent_s)
                        self.served.inference_s.append(event.result.inference_s)
                    self.served.failed += isinstance(event, FailureReceived)
                    seq, sent_s = seq + 1, time.monotonic()
                    client.send_offload(self._header(seq), self._jpeg)

    def stop(self) -> None:
        """Stop offloading and wait until the thread has ended."""
        self._stopping.set()
        self.join()

    def _header(self, seq: int) -> m.Offload:
        window, factor = self._geometry.window, self._geometry.factor
        return m.Offload.of(seq, seq, SIZE, Configuration(), window_size=window, downsampling_factor=factor)


def send_damaged(address: str, count: int, seed: int, geometry: ModelGeometry) -> None:
    """Send mutated messages in batches, as the fuzz job does."""
    attacker = Attacker(address, geometry, seed)
    for _ in range(0, count, BATCH):
        attacker.batch(BATCH)
    attacker.close()


def hold_idle(address: str, count: int) -> None:
    """Hold connections open that have sent nothing or a greeting, all at a time."""
    with ExitStack() as stack:
        for number in range(count):
            with suppress(OSError):
                raw = stack.enter_context(plain(address))
                raw.sendall(GREETING if number % 2 else b"")


def claim_ids(address: str) -> None:
    """Hold connections that have claimed ids which the server may give others, then open new ones."""
    with ExitStack() as stack:
        for number in range(CLAIMED_IDS):
            stack.enter_context(zmtp(address, router_id(number)))
        for _ in range(CLAIMED_IDS):
            zmtp(address).close()


def open_sessions(address: str, count: int) -> None:
    """Say Hello on one connection after the other."""
    for _ in range(count):
        with zmtp(address) as raw:
            raw.sendall(hello())
            raw.recv(1)


def flood(address: str, number: int) -> None:
    """Send one message without end, of large or of empty frames, until the server closes the connection."""
    part = frame(bytes(2**20), more=True) if number % 2 else frame(more=True) * 100_000
    with zmtp(address) as raw, suppress(OSError):
        raw.sendall(hello())
        raw.recv(1)
        for _ in range(FLOOD_PARTS):
            raw.sendall(part)


def attack(server: Child, options: argparse.Namespace, settle_s: float = SETTLE_S) -> dict[str, Any]:
    """Attack a server process while an honest client is served, and measure how it copes.

    Returns:
        crashes: 1 if the process ended; growth_mb: resident memory after the attacks less that after the warm-up;
        waited_inferences: longest wait of the honest client without its own inference, in inferences; disconnected,
        unanswered: how often the honest client lost its connection, and an offload.
    """
    address = str(server.wait_ready()["ready"])
    geometry, process = served_geometry(address), psutil.Process(server.pid)
    honest = HonestClient(address, geometry)
    honest.start()
    _wait(lambda: len(honest.served.answer_s) >= WARM_UP_OFFLOADS, server)
    before_mb, peak_mb = _resident_mb(process), 0.0
    alone_s = max(honest.served.answer_s)
    steps: list[tuple[str, Callable[[], None]]] = [
        ("damaged messages", lambda: send_damaged(address, options.messages, options.seed, geometry)),
        ("idle connections", lambda: hold_idle(address, options.idle)),
        ("claimed ids", lambda: claim_ids(address)),
        ("sessions", lambda: open_sessions(address, options.hellos)),
        *(("flood", lambda number=number: flood(address, number)) for number in range(options.floods)),
    ]
    terminal = Terminal.on_stderr()
    for done, (name, step) in enumerate(steps):
        terminal.step(done, len(steps), "attacks", name)
        with suppress(OSError):  # what the server did to it shows in the result
            step()
        peak_mb = max(peak_mb, _resident_mb(process))
    _wait(lambda: False, server, settle_s)
    honest.stop()
    served, after_mb = honest.served, _resident_mb(process)
    return {
        "crashes": int(server.returncode() is not None),
        "growth_mb": round(after_mb - before_mb, 1),
        "peak_growth_mb": round(peak_mb - before_mb, 1),
        "answered": len(served.answer_s),
        "answer_alone_s": round(alone_s, 3),
        "answer_s": round(max(served.answer_s), 3),
        "inference_s": round(max(served.inference_s), 3),
        "waited_inferences": round(served.waited_inferences(), 2),
        "disconnected": served.disconnected,
        "unanswered": served.failed,
    }


def _wait(done: Callable[[], bool], server: Child, timeout_s: float = 300.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not done() and server.returncode() is None and time.monotonic() < deadline_s:
        time.sleep(0.05)


def _resident_mb(process: psutil.Process) -> float:
    with suppress(psutil.Error):  # it has ended
        return float(process.memory_info().rss) / 2**20
    return 0.0


def command_line() -> CommandLine:
    """The options of this job."""
    parser = job_parser(
        "validation.hostile",
        "Attack a server in every known way while an honest client is served.",
        {
            "": "all attacks, several minutes",
            "--messages 500 --idle 100 --hellos 50 --floods 1": "a quick look",
        },
        f"Bars: {BARS}. Exit status 1: one was missed.",
    )
    parser.add_argument("--messages", type=int, default=20_000, help="number of damaged messages")
    parser.add_argument("--idle", type=int, default=2000, help="connections at a time that send nothing")
    parser.add_argument("--hellos", type=int, default=1100, help="sessions that are opened one after the other")
    parser.add_argument("--floods", type=int, default=5, help="messages that do not end")
    parser.add_argument("--seed", type=int, default=1, help="seed of the damage")
    parser.add_argument("--output", type=Path, default=Path("runs/profiling/hostile.json"), help="file of the result")
    return parser


def run(options: argparse.Namespace) -> bool:
    """Attack a server, print and store the result; False when a bar was missed."""
    for name in ("messages", "idle", "hellos", "floods"):
        check_positive(options, name)
    raise_descriptor_limit()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "server.log"
        with Child("server", "vitmalis.server", ["--no-restart"], log, {"OMP_NUM_THREADS": "1"}) as server:
            result = attack(server, options)
        last = [line for line in log.read_text().splitlines() if "ended:" in line]
    counts = {name: getattr(options, name) for name in ("messages", "idle", "hellos", "floods", "seed")}
    result["server_says"] = last[-1].partition("ended: ")[2] if last else "nothing"
    missed = [name for name, bar in BARS.items() if result[name] > bar]
    emit({**counts, **result, "bars": BARS, "missed": missed}, options.output)
    return not missed


main = option_job(command_line, run)


if __name__ == "__main__":
    sys.exit(main())
