"""Connections that try to end the server or to shut out others: names, idle peers, descriptors, sessions, greetings."""

from __future__ import annotations

import random
import socket
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
import zmq

from tests.server.conftest import PATIENCE_S, RawClient, blob_server, jpeg, next_event, offload, serving
from vitmalis.network.wire import coding
from vitmalis.network.wire import messages as m
from vitmalis.network.wire.client_endpoint import ClientEndpoint
from vitmalis.network.wire.events import Connected, ResultReceived
from vitmalis.server import endpoint as endpoint_module
from vitmalis.server.framing import FrameCounter
from vitmalis_jobs.validation.raw_peer import (
    GREETING,
    SIGNATURE,
    closed_by_peer,
    frame,
    hello,
    plain,
    ready,
    router_id,
    zmtp,
)


def serve_one(address: str) -> None:
    with ClientEndpoint("honest") as client:
        client.connect(address)
        next_event(client, Connected)
        assert client.send_offload(offload(1), jpeg())
        next_event(client, ResultReceived)


def test_peers_that_claim_the_ids_of_others_end_nothing(tmp_path: Path) -> None:
    """A ROUTER of libzmq 4.3.5 aborts when it gives an id that a peer has claimed."""
    with blob_server(tmp_path) as server, ExitStack() as stack:
        address = str(server.wait_ready()["ready"])
        for number in range(64):
            raw = stack.enter_context(zmtp(address, router_id(number)))
            raw.sendall(hello())
            assert raw.recv(1)
        for _ in range(2):
            stack.enter_context(zmtp(address, b"same"))
        for _ in range(5):
            serve_one(address)
        assert server.returncode() is None


def test_idle_connections_beyond_the_descriptors_end_nothing(tmp_path: Path) -> None:
    limited = ("sh", "-c", 'ulimit -n 256; exec "$@"', "sh")
    with blob_server(tmp_path, shell=limited) as server, ExitStack() as stack:
        address = str(server.wait_ready()["ready"])
        for number in range(600):
            raw = stack.enter_context(plain(address))
            if number % 3 == 0:
                raw.sendall(GREETING)
        serve_one(address)
        assert server.returncode() is None


def test_a_silent_client_outlasts_any_number_of_others(client: ClientEndpoint) -> None:
    with serving() as (service, endpoint):
        client.connect(endpoint.address)
        next_event(client, Connected)
        for _ in range(1100):
            with zmtp(endpoint.address) as raw:
                raw.sendall(hello())
                assert raw.recv(1)
        assert client.send_offload(offload(1), jpeg())
        next_event(client, ResultReceived)
        deadline = threading.Event()
        for _ in range(100):
            if len(service._sessions) == 1:
                break
            deadline.wait(0.1)
        assert len(service._sessions) == 1


def test_where_there_is_no_room_who_came_least_far_goes_first(client: ClientEndpoint) -> None:
    with serving(max_connections=4) as (_, endpoint), ExitStack() as stack:
        silent, greeted = (stack.enter_context(plain(endpoint.address)) for _ in range(2))
        greeted.sendall(GREETING)
        greeted.recv(1)
        welcomed = stack.enter_context(zmtp(endpoint.address))
        welcomed.sendall(hello())
        welcomed.recv(1)
        client.connect(endpoint.address)
        next_event(client, Connected)
        for victim in (silent, greeted, welcomed):
            newcomer = stack.enter_context(zmtp(endpoint.address))
            newcomer.sendall(hello())
            newcomer.recv(1)
            assert closed_by_peer(victim)
            client.ping(1)
            client.poll(PATIENCE_S)
        assert client.connected
        assert endpoint.closed["crowded"] == 3


@pytest.mark.parametrize("start", [b"", SIGNATURE, GREETING, GREETING + ready(), GREETING + ready() + b"\0"])
def test_without_a_message_a_connection_ends_in_time(start: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_module, "FIRST_MESSAGE_S", 0.2)
    with serving() as (_, endpoint), plain(endpoint.address) as raw:
        raw.sendall(start)
        assert closed_by_peer(raw)
        assert endpoint.closed["overdue"] == 1


@pytest.mark.parametrize(
    "start",
    [
        b"GET / HTTP/1.1\r\nHost: edge\r\n\r\n",
        b"\0" * 64,
        b"\xff" * 64,
        SIGNATURE + b"\x01" + bytes(60),
        random.randbytes(99),
    ],
    ids=["http", "zeros", "ones", "ZMTP 1", "random"],
)
def test_what_is_not_zmtp_3_never_reaches_zeromq(start: bytes) -> None:
    with serving() as (service, endpoint):
        with plain(endpoint.address) as raw:
            raw.sendall(start)
            assert closed_by_peer(raw)
        serve_one(endpoint.address)
        assert endpoint.closed["malformed"] == 1
        assert service.counts == {"served": 1}


def test_frames_are_counted_wherever_the_stream_is_cut() -> None:
    bodies = [b"", b"x" * 255, b"y" * 256, b"z" * 70_000, b"", b"m"]
    stream = (GREETING + ready() + b"".join(frame(body, more=True) for body in bodies))[len(SIGNATURE) :]
    generator = random.Random(1)
    for longest in (1, 7, 300, 100_000):
        counter, position, frames = FrameCounter(), 0, 0
        while position < len(stream):
            end = position + generator.randint(1, longest)
            frames += counter.count(stream[position:end])
            position = end
        assert frames == 1 + len(bodies)


def test_frames_of_libzmq_itself_are_counted() -> None:
    """What a DEALER sends: its handshake, then three messages of two frames."""
    with socket.create_server(("127.0.0.1", 0)) as listener, zmq.Context() as context:
        dealer = context.socket(zmq.DEALER)
        dealer.connect(f"tcp://127.0.0.1:{listener.getsockname()[1]}")
        for _ in range(3):
            dealer.send_multipart([b"header", b"payload" * 1000])
        server, _ = listener.accept()
        with server:
            server.settimeout(PATIENCE_S)
            server.sendall(GREETING + ready())
            received = b""
            while not received.endswith(b"payload" * 1000) or received.count(b"header") < 3:
                received += server.recv(65536)
        dealer.close(0)
    assert FrameCounter().count(received[len(SIGNATURE) :]) == 1 + 6


def test_the_answer_to_a_message_without_a_session_has_a_name_of_its_own() -> None:
    with serving() as (_, endpoint), RawClient(endpoint.address) as raw:
        raw.send(*coding.encode(m.Ping(1)))
        answer = raw.receive()
        assert isinstance(answer, m.Failure)
        assert answer.reason == m.NO_SESSION
