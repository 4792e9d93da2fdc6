"""Fuzzing of the server with damaged messages: `python -m validation.fuzz`.

A real server process receives thousands of mutated messages, as ZeroMQ messages or as bytes on a plain TCP connection.
In between and at the end an honest client offloads a frame. The result is one JSON object on standard output and in
`runs/profiling`; `missed` names the bars that were missed.
"""

from __future__ import annotations

import argparse
import socket
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import zmq

from vitmalis.codec.jpeg import encode_jpeg
from vitmalis.command_line import CommandLine
from vitmalis.errors import UserError
from vitmalis.network.addresses import split_address
from vitmalis.network.wire import coding
from vitmalis.network.wire import messages as m
from vitmalis.network.wire.client_endpoint import ClientEndpoint
from vitmalis.network.wire.events import Connected, ResultReceived
from vitmalis.process import Child
from vitmalis.regions import ModelGeometry
from vitmalis.types import Configuration
from vitmalis_jobs.common.arguments import check_positive
from vitmalis_jobs.common.cli import job_parser, option_job
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.job_output import emit
from vitmalis_jobs.validation.mutations import Mutator

BARS = {"crashes": 0, "growth_mb": 50, "honest_s": 1.0}
"""Most that each of these results may be."""
SIZE = (320, 96)
"""Width and height of the frames: small, so that inference of those that are still valid is quick."""
BATCH = 100
"""Messages on one connection."""
TIMEOUT_S = 20.0


class Attacker:
    """Sends mutated messages: a batch on each ZeroMQ connection after a valid `Hello`, every tenth on plain TCP."""

    def __init__(self, address: str, geometry: ModelGeometry, seed: int) -> None:
        self._address = address
        self._mutator = Mutator(geometry, seed, SIZE)
        self._context = zmq.Context()
        self._batches = 0

    def batch(self, count: int) -> None:
        """Send `count` messages, and wait until the server has handled them or closed the connection."""
        self._batches += 1
        if self._batches % 10 == 0:
            self._send_plain_tcp(count)
            return
        raw = self._context.socket(zmq.DEALER)
        raw.setsockopt(zmq.LINGER, 0)
        raw.setsockopt(zmq.SNDHWM, 2)  # messages may have tens of megabytes
        raw.setsockopt(zmq.SNDTIMEO, 2000)  # a connection that the server closed takes no more,
        raw.setsockopt(zmq.RCVTIMEO, 2000)  # and what it had sent is dropped, also after `poll` has reported it
        raw.connect(self._address)
        try:
            raw.send_multipart(coding.encode(m.Hello("fuzz")))
            for _ in range(count):
                message = self._mutator.message()
                raw.send_multipart(self._mutator.announce())
                raw.send_multipart(message)
                while raw.poll(0):
                    raw.recv_multipart()
            raw.send_multipart(coding.encode(m.Ping(0)))
            while raw.poll(2000):
                if raw.recv_multipart()[0] == coding.encode(m.Pong(0))[0]:
                    break
        except zmq.Again:
            pass
        finally:
            raw.close(0)

    def _send_plain_tcp(self, count: int) -> None:
        """Send messages without ZeroMQ's framing, one per connection: the listening socket must survive them."""
        server = split_address(self._address)
        for _ in range(count):
            with suppress(OSError), socket.create_connection(server, timeout=2.0) as raw:
                raw.sendall(b"".join(self._mutator.message())[:100_000])

    def close(self) -> None:
        """Drop all messages that are still queued."""
        self._context.term()


def honest_client_s(address: str, geometry: ModelGeometry, timeout_s: float = TIMEOUT_S) -> float:
    """How long a new honest client waits for detections, handshake included; infinity after a timeout."""
    image = np.full((SIZE[1], SIZE[0], 3), 128, np.uint8)
    jpeg, start_s = encode_jpeg(image, 90), time.monotonic()
    header = m.Offload.of(1, 1, SIZE, Configuration(), window_size=geometry.window, downsampling_factor=geometry.factor)
    with ClientEndpoint("honest") as client:
        client.connect(address)
        while time.monotonic() - start_s < timeout_s:
            for event in client.poll(0.5):
                if isinstance(event, Connected):
                    client.send_offload(header, jpeg)
                elif isinstance(event, ResultReceived):
                    return time.monotonic() - start_s
    return float("inf")


def served_geometry(address: str) -> ModelGeometry:
    """Ask a server for the geometry of its model.

    Raises:
        UserError: it does not answer in time.
    """
    with ClientEndpoint("honest") as client:
        client.connect(address)
        deadline_s = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline_s:
            for event in client.poll(0.5):
                if isinstance(event, Connected):
                    return event.welcome.geometry
    raise UserError(f"the server at {address} does not answer")


def fuzz(server: Child, count: int, seed: int, every: int = 1000) -> dict[str, Any]:
    """Send mutated messages to a server process and measure how it copes.

    Args:
        server: a process that has just been started.
        count: number of messages.
        seed: seed of the mutations.
        every: number of messages between two offloads of an honest client.

    Returns:
        crashes: 1 if the process ended; growth_mb: resident memory after the attack less that after its first tenth
        (which fills caches and allocator pools); growth_from_start_mb; honest_s: longest wait of the honest client.
    """
    address = str(server.wait_ready()["ready"])
    geometry, process = served_geometry(address), psutil.Process(server.pid)
    waits = [honest_client_s(address, geometry)]
    memory_mb = [process.memory_info().rss / 2**20]
    attacker = Attacker(address, geometry, seed)
    terminal = Terminal.on_stderr()
    for sent in range(BATCH, count + BATCH, BATCH):
        attacker.batch(BATCH)
        if server.returncode() is not None:
            break
        if sent % every == 0 or sent >= count:
            waits.append(honest_client_s(address, geometry))
            memory_mb.append(process.memory_info().rss / 2**20)
        terminal.step(min(sent, count), count, "messages")
    attacker.close()
    crashed = server.returncode() is not None
    return {
        "messages": count,
        "seed": seed,
        "crashes": int(crashed),
        "growth_mb": round(memory_mb[-1] - memory_mb[min(1, len(memory_mb) - 1)], 1),
        "growth_from_start_mb": round(memory_mb[-1] - memory_mb[0], 1),
        "honest_s": round(max(waits), 3),
    }


def command_line() -> CommandLine:
    """The options of this job."""
    parser = job_parser(
        "validation.fuzz",
        "Send damaged messages to a server: it has to refuse them and to serve an honest client meanwhile.",
        {
            "": "10,000 messages, two minutes",
            "--messages 500 --seed 2": "a quick look with other damage",
        },
        f"Bars: {BARS}. Exit status 1: one was missed.",
    )
    parser.add_argument("--messages", type=int, default=10_000, help="number of damaged messages")
    parser.add_argument("--seed", type=int, default=1, help="seed of the damage")
    parser.add_argument("--output", type=Path, default=Path("runs/profiling/fuzz.json"), help="file of the result")
    return parser


def run(options: argparse.Namespace) -> bool:
    """Fuzz a server, print and store the result; False when a bar was missed."""
    check_positive(options, "messages")
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "server.log"
        with Child(
            "server", "vitmalis.server", ["--max-message-mb=2", "--no-restart"], log, {"OMP_NUM_THREADS": "1"}
        ) as server:
            result = fuzz(server, options.messages, options.seed)
        last = [line for line in log.read_text().splitlines() if "ended:" in line]
    result["server_says"] = last[-1].partition("ended: ")[2] if last else "nothing"
    missed = [name for name, bar in BARS.items() if result[name] > bar]
    emit({**result, "bars": BARS, "missed": missed}, options.output)
    return not missed


main = option_job(command_line, run)


if __name__ == "__main__":
    sys.exit(main())
