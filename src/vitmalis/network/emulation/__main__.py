"""Command line of the relay: a TCP proxy that releases bytes when the traced link would.

    python -m vitmalis.network.relay --listen 127.0.0.1:0 --upstream 127.0.0.1:5555 --trace 4g.csv --transport ideal

Clients connect here instead of to the server. It needs no privileges. See `docs/link.md`.
"""

from __future__ import annotations

import argparse
import gc
import json
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NoReturn, get_args

from vitmalis.command_line import CommandLine
from vitmalis.errors import UserError
from vitmalis.network.addresses import SocketAddress, bound_address, listen, resolve, split_target
from vitmalis.network.emulation.path import EmulatedPath, Transport
from vitmalis.network.emulation.relay import MIN_QUEUE_BYTES, QUEUE_BYTES, Relay
from vitmalis.network.traces import load_trace
from vitmalis.process import announce_ready, exit_on_stdin_eof, raise_descriptor_limit

RECEIVE_BUFFER_BYTES = 64 * 1024
"""Small, so that a sender feels the link instead of filling a buffer in front of it."""


def resolve_upstream(address: str) -> SocketAddress:
    """Resolve the server's address; raise `UserError` if it is none, or the host is unknown."""
    try:
        split_target(address)
        return resolve(address)
    except ValueError as error:
        raise UserError(f"address '{address}' cannot be used ({error}): write it like 127.0.0.1:5555") from error


def listen_at(address: str) -> socket.socket:
    """Listen for clients; raise `UserError` if the address is none or is taken."""
    try:
        return listen(address, RECEIVE_BUFFER_BYTES)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"cannot listen at {address}: {reason}; choose another port, or 0 for any") from error


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the relay's command line."""
    parser = CommandLine(
        "python -m vitmalis.network.relay",
        "Emulate a cellular uplink between clients and a server: a TCP relay driven by a trace.",
        {
            "--listen 127.0.0.1:6000 --upstream edge:5555 --trace 4g.csv": "clients connect to port 6000 here",
            "--upstream edge:5555 --trace verizon.up --rtt-ms 60 --transport tcp": "a Mahimahi file, a TCP sender",
        },
        "The trace's clock starts with the first byte that a client sends, and wraps at the trace's end. "
        "Connections share the uplink; answers take only the one-way delay (rtt_ms / 2). Prints one JSON line "
        '{"ready": address} when it listens and {"summary": ...} when it ends, which it does on SIGTERM, SIGINT or the '
        "end of its standard input.",
    )
    parser.add_argument(
        "--listen", default="127.0.0.1:0", metavar="HOST:PORT", help="address for clients; port 0: any free one"
    )
    parser.add_argument("--upstream", required=True, metavar="HOST:PORT", help="address of the server")
    parser.add_argument(
        "--trace", required=True, metavar="FILE", help="trace: CSV time_s,uplink_mbps,rtt_ms or a Mahimahi file"
    )
    parser.add_argument(
        "--rtt-ms", type=float, default=40.0, metavar="MS", help="round-trip time of a Mahimahi file in ms"
    )
    parser.add_argument(
        "--transport", choices=get_args(Transport), default="ideal",
        help="ideal: bytes reach the link as they are sent; tcp: as a TCP sender with a growing window would send them",
    )  # fmt: skip
    parser.add_argument(
        "--queue-bytes", type=int, default=QUEUE_BYTES, metavar="N",
        help="stop reading a client while this much of its data waits for the link, in bytes",
    )  # fmt: skip
    parser.add_argument(
        "--trace-origin-s", type=float, metavar="S",
        help="time 0 of the trace in seconds of this machine's monotonic clock, to continue the trace of a relay that "
        "is started again (default: a new one); each relay prints its own as {\"trace_origin_s\": S}",
    )  # fmt: skip
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the relay until a signal or the end of its standard input; return the exit status, 2 for a user's mistake."""
    options = parse_arguments(arguments)
    raise_descriptor_limit()
    try:
        if options.queue_bytes < MIN_QUEUE_BYTES:
            raise UserError(f"--queue-bytes is {options.queue_bytes}: give at least {MIN_QUEUE_BYTES}")
        path = EmulatedPath(load_trace(options.trace, rtt_ms=options.rtt_ms), options.transport)
        upstream = resolve_upstream(options.upstream)
        listener = listen_at(options.listen)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    relay = Relay(
        listener, upstream, path, options.queue_bytes, origin_s=options.trace_origin_s, on_origin=_announce_origin
    )
    _serve(relay, listener)
    return 0


def _announce_origin(origin_s: float) -> None:
    with suppress(OSError):  # standard output may be closed already
        print(json.dumps({"trace_origin_s": origin_s}), flush=True)


def _serve(relay: Relay, listener: socket.socket) -> None:
    def stop(*_: Any) -> NoReturn:
        _on_signals(lambda *_: None)  # a second signal must not interrupt the orderly end
        raise SystemExit

    _on_signals(stop)
    started_s = time.monotonic()
    with suppress(SystemExit):
        announce_ready(bound_address(listener))
        exit_on_stdin_eof()
        gc.freeze()  # a collection that walks the imported modules takes several milliseconds
        relay.run()
    summary = relay.summary() | {
        "cpu_s": round(time.process_time(), 3),
        "wall_s": round(time.monotonic() - started_s, 3),
    }
    with suppress(OSError):  # standard output may be closed already
        print(json.dumps({"summary": summary}), flush=True)


def _on_signals(handler: Callable[..., Any]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main())
