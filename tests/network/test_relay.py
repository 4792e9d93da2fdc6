"""The relay as a process, with real sockets: content, order, sharing, disconnects and summary."""

from __future__ import annotations

import hashlib
import json
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
import zmq

from vitmalis.network.addresses import split_address
from vitmalis.network.traces import Trace, constant_trace, save_mahimahi, save_trace
from vitmalis.process import Child

PATIENCE_S = 30.0
Handler = Callable[[socket.socket], None]


@contextmanager
def served(handler: Handler) -> Iterator[str]:
    """A server that handles its connections in threads; yields its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                client.settimeout(PATIENCE_S)
                threading.Thread(target=handler, args=(client,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)


@contextmanager
def relayed(folder: Path, upstream: str, trace: Trace, *options: str) -> Iterator[tuple[Child, tuple[str, int]]]:
    """A relay in front of `upstream`; yields its process and its address."""
    path = folder / "trace.csv"
    save_trace(trace, path)
    arguments = ["--upstream", upstream, "--trace", str(path), *options]
    with Child("relay", "vitmalis.network.emulation", arguments, folder / "relay.log") as relay:
        host, port = relay.wait_ready()["ready"].removeprefix("tcp://").split(":")
        yield relay, (host, int(port))


def connect(address: tuple[str, int]) -> socket.socket:
    return socket.create_connection(address, PATIENCE_S)


def read_all(end: socket.socket) -> bytes:
    return b"".join(iter(lambda: end.recv(65536), b""))


def answer_digest(client: socket.socket) -> None:
    """Answer all that a client has sent, once it has ended, with its hash."""
    with client:
        client.sendall(hashlib.sha256(read_all(client)).digest())


def echo(client: socket.socket) -> None:
    with client:
        while data := client.recv(65536):
            client.sendall(data)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


FAST = constant_trace(100.0, 4.0)
OUTAGE = Trace("outage", np.array([0.0, 0.05]), np.array([12.0, 0.0]), np.zeros(2), duration_s=600.0)


@pytest.mark.parametrize("transport", ["ideal", "tcp"])
def test_content_passes_unchanged(tmp_path: Path, transport: str) -> None:
    content = random.Random(1).randbytes(600_000)
    with (
        served(answer_digest) as server,
        relayed(tmp_path, server, FAST, "--transport", transport) as (_, address),
        connect(address) as client,
    ):
        client.sendall(content)
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == hashlib.sha256(content).digest()


def test_both_directions_keep_their_order(tmp_path: Path) -> None:
    content = random.Random(2).randbytes(300_000)
    with (
        served(echo) as server,
        relayed(tmp_path, server, FAST, "--queue-bytes", "20000") as (_, address),
        connect(address) as client,
    ):
        threading.Thread(target=lambda: (client.sendall(content), client.shutdown(socket.SHUT_WR)), daemon=True).start()
        assert read_all(client) == content


def test_an_upload_takes_at_least_what_the_link_needs(tmp_path: Path) -> None:
    """100 kB through 8 Mbps are 100 ms, and 10 ms of propagation each way."""
    with (
        served(answer_digest) as server,
        relayed(tmp_path, server, constant_trace(8.0, 20.0)) as (_, address),
        connect(address) as client,
    ):
        started_s = time.monotonic()
        client.sendall(bytes(100_000))
        client.shutdown(socket.SHUT_WR)
        assert len(read_all(client)) == 32
        assert time.monotonic() - started_s >= 0.118


def test_a_mahimahi_file_takes_its_round_trip_from_the_command_line(tmp_path: Path) -> None:
    save_mahimahi(FAST, tmp_path / "fast.trace")
    with served(echo) as server:
        arguments = ["--upstream", server, "--trace", str(tmp_path / "fast.trace"), "--rtt-ms", "200"]
        with Child("relay", "vitmalis.network.emulation", arguments, tmp_path / "relay.log") as relay:
            host, port = relay.wait_ready()["ready"].removeprefix("tcp://").split(":")
            with connect((host, int(port))) as client:
                started_s = time.monotonic()
                client.sendall(b"x")
                assert client.recv(1) == b"x"
                assert time.monotonic() - started_s >= 0.2


def test_connections_share_one_uplink(tmp_path: Path) -> None:
    """Three clients send 40 kB each through 8 Mbps: the last is done no earlier than 120 kB take."""
    with served(answer_digest) as server, relayed(tmp_path, server, constant_trace(8.0, 0.0)) as (_, address):
        clients = [connect(address) for _ in range(3)]
        started_s = time.monotonic()
        for client in clients:
            client.sendall(bytes(40_000))
            client.shutdown(socket.SHUT_WR)
        assert [len(read_all(client)) for client in clients] == [32] * 3
        assert time.monotonic() - started_s >= 0.118
        for client in clients:
            client.close()


def test_a_full_backlog_makes_the_sender_wait(tmp_path: Path) -> None:
    """In an outage the relay reads only `--queue-bytes`, so a sender with a small buffer blocks."""
    with (
        served(echo) as server,
        relayed(tmp_path, server, OUTAGE, "--queue-bytes", "32768") as (_, address),
        closing(socket.socket()) as client,
    ):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
        client.connect(address)
        client.settimeout(2.0)
        with pytest.raises(TimeoutError):
            client.sendall(bytes(8_000_000))


def test_the_server_closing_reaches_the_client_after_the_last_answer(tmp_path: Path) -> None:
    def answer_once(client: socket.socket) -> None:
        with client:
            client.recv(1)
            client.sendall(b"last words")

    with (
        served(answer_once) as server,
        relayed(tmp_path, server, FAST) as (_, address),
        connect(address) as client,
    ):
        client.sendall(b"x")
        assert read_all(client) == b"last words"


def test_the_end_of_the_server_is_noticed_behind_a_full_backlog(tmp_path: Path) -> None:
    """Bytes that can never arrive do not keep a connection open."""
    with (
        served(lambda client: (client.recv(1), client.close())) as server,
        relayed(tmp_path, server, OUTAGE, "--queue-bytes", "32768") as (_, address),
        connect(address) as client,
        pytest.raises(ConnectionError),
    ):
        client.sendall(bytes(50_000_000))


def test_the_client_closing_reaches_the_server_after_its_last_byte(tmp_path: Path) -> None:
    received: list[bytes] = []
    ended = threading.Event()

    def keep(client: socket.socket) -> None:
        with client:
            received.append(read_all(client))
            ended.set()

    with served(keep) as server, relayed(tmp_path, server, constant_trace(8.0, 40.0)) as (_, address):
        with connect(address) as client:
            client.sendall(b"x" * 50_000)
        assert ended.wait(PATIENCE_S)
        assert received == [b"x" * 50_000]


def test_a_server_that_is_down_turns_clients_away_until_it_is_up(tmp_path: Path) -> None:
    port = free_port()
    with relayed(tmp_path, f"127.0.0.1:{port}", FAST) as (relay, address):
        for _ in range(2):
            with connect(address) as client:
                assert client.recv(1) == b""
        with socket.create_server(("127.0.0.1", port)) as server, connect(address) as client:
            client.sendall(b"x")
            accepted, _ = server.accept()
            with accepted:
                accepted.settimeout(PATIENCE_S)
                assert accepted.recv(1) == b"x"
        assert relay.returncode() is None
    log = (tmp_path / "relay.log").read_text()
    assert log.count(f"server 127.0.0.1:{port} cannot be reached (ECONNREFUSED)") == 1


def test_zeromq_dealer_and_router_talk_through_it(tmp_path: Path) -> None:
    context = zmq.Context()
    router, dealer = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    try:
        for end in (router, dealer):
            end.setsockopt(zmq.LINGER, 0)
            end.setsockopt(zmq.RCVTIMEO, round(PATIENCE_S * 1e3))
        port = router.bind_to_random_port("tcp://127.0.0.1")
        with relayed(tmp_path, f"127.0.0.1:{port}", FAST, "--transport", "tcp") as (_, (host, relay_port)):
            dealer.connect(f"tcp://{host}:{relay_port}")
            for size in (1, 100_000, 400_000):
                payload = random.Random(size).randbytes(size)
                dealer.send_multipart([b"header", payload])
                who, *message = router.recv_multipart()
                assert message == [b"header", payload]
                router.send_multipart([who, b"result"])
                assert dealer.recv_multipart() == [b"result"]
    finally:
        context.destroy(linger=0)


def test_its_summary_counts_connections_bytes_and_lateness(tmp_path: Path) -> None:
    with served(echo) as server, relayed(tmp_path, server, FAST) as (relay, address):
        with connect(address) as client:
            client.sendall(b"four")
            assert client.recv(4) == b"four"
        assert relay.stop() == 0
        summary = json.loads(relay.stdout.read().splitlines()[-1])["summary"]
    assert summary["connections"] == 1
    assert summary["uplink_bytes"] == summary["downlink_bytes"] == 4
    assert summary["lateness_p99_ms"] >= summary["lateness_p50_ms"] >= 0


def test_without_descriptors_idle_connections_go_and_others_are_served(tmp_path: Path) -> None:
    """256 descriptors, as on macOS: 400 idle connections take two each."""
    save_trace(constant_trace(100.0, 4.0), tmp_path / "trace.csv")
    limited = ("sh", "-c", 'ulimit -n 256; exec "$@"', "sh")
    with served(echo) as upstream:
        arguments = ["--upstream", upstream, "--trace", str(tmp_path / "trace.csv")]
        log = tmp_path / "relay.log"
        with Child("relay", "vitmalis.network.emulation", arguments, log, shell=limited) as relay, ExitStack() as stack:
            address = split_address(relay.wait_ready()["ready"])
            first = stack.enter_context(connect(address))
            first.sendall(b"a")
            assert first.recv(1) == b"a"
            for _ in range(400):
                stack.enter_context(connect(address))
            for client in (first, stack.enter_context(connect(address))):
                client.sendall(b"b")
                assert client.recv(1) == b"b"
            assert relay.returncode() is None
        assert len(log.read_text().splitlines()) < 40
