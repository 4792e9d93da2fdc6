"""The endpoints of client and server over real sockets: handshake, reconnection, full queues, bad messages."""

from __future__ import annotations

import re
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from tests.server.blob_server import GEOMETRY
from tests.server.conftest import PATIENCE_S, next_event
from vitmalis.errors import UserError
from vitmalis.network.emulation.__main__ import listen_at, resolve_upstream
from vitmalis.network.wire import coding
from vitmalis.network.wire import messages as m
from vitmalis.network.wire.client_endpoint import ClientEndpoint
from vitmalis.network.wire.events import (
    Connected,
    Disconnected,
    FailureReceived,
    PongReceived,
    ResultReceived,
    VersionMismatch,
)
from vitmalis.network.wire.payloads import pack_detections
from vitmalis.server.endpoint import Closed, Received, ServerEndpoint
from vitmalis.types import Configuration, Detections
from vitmalis_jobs.validation.raw_peer import GREETING, frame, ready

FOUND = Detections.of([[1, 2, 3, 4]], [0.5], [2])


def offload(seq: int) -> m.Offload:
    return m.Offload.of(seq, seq, (960, 540), Configuration(), window_size=5, downsampling_factor=2)


def answer(server: ServerEndpoint, received: Received) -> None:
    content = received.content
    if isinstance(content, m.Hello):
        server.send(received.peer, m.Welcome("blob", "ab12", GEOMETRY))
    elif isinstance(content, m.Ping):
        server.send(received.peer, m.Pong(content.nonce))
    elif isinstance(content, m.Offload):
        result = m.Result(content.seq, 1, 0.0, 0.0, 0.0, 0.0, 0.0)
        server.send(received.peer, result, pack_detections(FOUND))
    elif isinstance(content, m.ProtocolError):
        server.send(received.peer, m.Failure.of(content.seq, str(content)))


@contextmanager
def serving(
    address: str = "tcp://127.0.0.1:0",
    handle: Callable[[ServerEndpoint, Received], None] = answer,
    received_messages: list[Received] | None = None,
) -> Iterator[str]:
    """A server in a thread; yields its address and appends all messages to `received_messages`."""
    server = ServerEndpoint(address, max_payload_bytes=1000)
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            for received in server.poll(5.0):
                if isinstance(received, Closed):
                    continue
                if received_messages is not None:
                    received_messages.append(received)
                handle(server, received)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield server.address
    finally:
        stop.set()
        server.wake()
        thread.join(PATIENCE_S)
        server.close()


@pytest.fixture
def client() -> Iterator[ClientEndpoint]:
    with ClientEndpoint("test") as endpoint:
        yield endpoint


def test_handshake_offload_failure_and_ping(client: ClientEndpoint) -> None:
    received_messages: list[Received] = []
    with serving(received_messages=received_messages) as address:
        assert not client.send_offload(offload(0), b"jpeg")  # not connected: not taken
        client.connect(address)
        connected = next_event(client, Connected)
        assert isinstance(connected, Connected)
        assert (connected.welcome.model, connected.welcome.model_id) == ("blob", "ab12")
        assert connected.welcome.classes[2] == "car"
        assert client.connected
        assert client.last_error == ""

        before_s = time.monotonic()
        assert client.send_offload(offload(1), b"jpeg")
        result = next_event(client, ResultReceived)
        assert isinstance(result, ResultReceived)
        assert result.result.seq == 1
        assert before_s <= result.received_s <= time.monotonic()
        np.testing.assert_array_equal(result.detections.boxes_xyxy, FOUND.boxes_xyxy)

        assert client.send_offload(offload(2), b"x" * 1001)
        failure = next_event(client, FailureReceived)
        assert isinstance(failure, FailureReceived)
        assert failure.seq == 2
        assert "at most 1000" in failure.reason

        assert client.ping(3)
        pong = next_event(client, PongReceived)
        assert isinstance(pong, PongReceived)
        assert pong.nonce == 3
    kinds = [type(received.content) for received in received_messages]
    assert kinds == [m.Hello, m.Announce, m.Offload, m.Announce, m.ProtocolError, m.Ping]
    assert received_messages[2].payload == b"jpeg"
    times = [received.received_s for received in received_messages]
    assert times == sorted(times)


def test_server_gone_and_back(client: ClientEndpoint) -> None:
    with serving() as address:
        client.connect(address)
        next_event(client, Connected)
    gone = next_event(client, Disconnected)
    assert isinstance(gone, Disconnected)
    assert not client.connected
    assert not client.send_offload(offload(1), b"jpeg")
    assert client.poll(0.3) == []
    assert address in client.last_error
    with serving(address):
        next_event(client, Connected)
        assert client.send_offload(offload(2), b"jpeg")
        next_event(client, ResultReceived)


def test_an_offload_of_a_dead_connection_never_reaches_the_next_server(client: ClientEndpoint) -> None:
    release = threading.Event()

    def greet_then_sleep(server: ServerEndpoint, received: Received) -> None:
        if isinstance(received.content, m.Hello):
            answer(server, received)
        else:
            release.wait(PATIENCE_S)

    with serving(handle=greet_then_sleep) as address:
        client.connect(address)
        next_event(client, Connected)
        taken = [client.send_offload(offload(seq), bytes(1000)) for seq in range(50)]
        assert any(taken)
        release.set()
    next_event(client, Disconnected)
    received_messages: list[Received] = []
    with serving(address, received_messages=received_messages):
        next_event(client, Connected)
        assert client.send_offload(offload(100), b"jpeg")
        next_event(client, ResultReceived)
    sent = [received.content.seq for received in received_messages if isinstance(received.content, m.Offload)]
    assert sent == [100]


def test_a_busy_connection_does_not_take_more_than_it_can_queue(client: ClientEndpoint) -> None:
    """On a silent link, offloads that cannot be sent are refused immediately and do not grow old in a queue."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with serving() as address:
            host, port = address.removeprefix("tcp://").split(":")
            client.connect(f"tcp://127.0.0.1:{listener.getsockname()[1]}")
            down, _ = listener.accept()
            with down, socket.create_connection((host, int(port))) as up:
                stalled = threading.Event()
                pumps = [threading.Thread(target=pump, args=(ends, stalled)) for ends in ((down, up), (up, down))]
                for thread in pumps:
                    thread.start()
                next_event(client, Connected)
                stalled.set()
                for thread in pumps:
                    thread.join(PATIENCE_S)
                taken = [client.send_offload(offload(seq), bytes(1_000_000)) for seq in range(50)]
                assert taken[0]
                assert sum(taken) < 10
        next_event(client, Disconnected)


def pump(ends: tuple[socket.socket, socket.socket], stalled: threading.Event) -> None:
    """Carry bytes one way until `stalled` or the end of the connection."""
    source, target = ends
    while not stalled.is_set():
        if select.select([source], [], [], 0.05)[0]:
            data = source.recv(4096)
            if not data:
                return
            target.sendall(data)


def test_wake_ends_a_poll_from_another_thread(client: ClientEndpoint) -> None:
    timer = threading.Timer(0.05, client.wake)
    timer.start()
    before_s = time.monotonic()
    assert client.poll(PATIENCE_S) == []
    assert time.monotonic() - before_s < PATIENCE_S
    timer.join()
    client.wake()
    client.wake()
    assert client.poll(PATIENCE_S) == []  # a wake before the poll is not lost


def test_wake_after_close_is_harmless() -> None:
    client = ClientEndpoint()
    client.close()
    client.wake()


def test_another_protocol_version_is_reported_on_both_sides(
    client: ClientEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    received_messages: list[Received] = []

    def newer_version(server: ServerEndpoint, received: Received) -> None:
        server._connections[received.peer].send([b"VM\x03whatever"])

    with serving(handle=newer_version, received_messages=received_messages) as address:
        client.connect(address)
        mismatch = next_event(client, VersionMismatch)
        assert mismatch == VersionMismatch(theirs=3)
        assert "protocol 3, this side 2" in client.last_error
        assert client.poll(0.5) == []  # and it does not try again
        assert len(received_messages) == 1

    received_messages.clear()
    with serving(received_messages=received_messages) as address, ClientEndpoint() as newer_client:
        with monkeypatch.context() as patch:
            patch.setattr(coding, "PROTOCOL", 3)
            newer_client.connect(address)  # its Hello says version 3
        assert isinstance(next_event(newer_client, FailureReceived), FailureReceived)
    assert isinstance(received_messages[0].content, m.ProtocolVersionError)
    assert received_messages[0].content.theirs == 3


def test_a_bad_message_from_the_server_ends_the_connection(client: ClientEndpoint) -> None:
    def send_bad_result(server: ServerEndpoint, received: Received) -> None:
        if isinstance(received.content, m.Offload):
            result = m.Result(received.content.seq, 1, 0.0, 0.0, 0.0, 0.0, 0.0)
            server.send(received.peer, result, b"too short")
        else:
            answer(server, received)

    with serving(handle=send_bad_result) as address:
        client.connect(address)
        next_event(client, Connected)
        client.send_offload(offload(1), b"jpeg")
        gone = next_event(client, Disconnected)
        assert isinstance(gone, Disconnected)
        assert "bad message: 9 bytes for 1 detections" in gone.reason
        next_event(client, Connected)


def test_nothing_listens(client: ClientEndpoint) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    client.connect(f"tcp://127.0.0.1:{port}")
    assert client.poll(0.2) == []
    assert client.last_error == f"tcp://127.0.0.1:{port}: nothing listens there"


@pytest.mark.parametrize(
    "address",
    ["", "here", "tcp://127.0.0.1", "tcp://127.0.0.1:port", "udp://127.0.0.1:5", "tcp://127.0.0.1:65536", "tcp://127.0.0.1:-1",
     "tcp://127.0.0.1:\u0665", "tcp://127.0.0.1:99999999999999999999", "tcp://127.0.0.1:22x", "tcp://:1", "ipc://", "ipc://x:5",
     " tcp://127.0.0.1:5", "tcp://a b:5", "tcp://::1:5", "tcp://[::1:5", "tcp://[127.0.0.1]:5", "tcp://me@host:5",
     "tcp://lo;127.0.0.1:5", "tcp://127.0.0.1:1:2", "tcp://$EDGE:5", f"tcp://{64 * 'a'}:5"],
)  # fmt: skip
def test_unusable_addresses(client: ClientEndpoint, address: str) -> None:
    with pytest.raises(UserError, match=re.escape(f"'{address}' cannot be used")):
        client.connect(address)
    with pytest.raises(UserError, match=re.escape(f"'{address}' cannot be bound")):
        ServerEndpoint(address)
    with pytest.raises(UserError, match="write it like"):
        resolve_upstream(address)
    with pytest.raises(UserError, match="cannot listen at"):
        listen_at(address)
    assert client.poll(0.0) == []


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:0", "tcp://*:5"])
def test_addresses_at_which_a_server_can_only_listen(client: ClientEndpoint, address: str) -> None:
    with pytest.raises(UserError, match="is where a server"):
        client.connect(address)
    with pytest.raises(UserError, match="is where a server"):
        resolve_upstream(address)


def test_addresses_without_a_scheme_and_of_ipv6(client: ClientEndpoint) -> None:
    for address in ("127.0.0.1:0", "tcp://[::1]:0"):
        with serving(address) as bound:
            client.connect(bound.removeprefix("tcp://"))
            (event,) = client.poll(10.0)
            assert isinstance(event, Connected)


def test_a_busy_port_is_one_clear_line() -> None:
    with ServerEndpoint("tcp://127.0.0.1:0") as first:
        assert not first.address.endswith(":0")
        with pytest.raises(UserError) as refusal:
            ServerEndpoint(first.address)
    assert str(refusal.value) == (
        f"server address '{first.address}' cannot be bound (Address already in use); port 0 takes a free one"
    )


def test_an_answer_to_a_client_that_left_is_reported_not_raised() -> None:
    with ServerEndpoint("tcp://127.0.0.1:0") as server:
        assert not server.send(b"unknown", m.Pong(1))


def test_without_a_session_the_client_connects_again(client: ClientEndpoint) -> None:
    """As when a server lost its state, but not the connection."""

    def forget_the_first(server: ServerEndpoint, received: Received) -> None:
        if isinstance(received.content, m.Offload) and received.content.seq == 1:
            server.send(received.peer, m.Failure(1, m.NO_SESSION))
        else:
            answer(server, received)

    with serving(handle=forget_the_first) as address:
        client.connect(address)
        next_event(client, Connected)
        assert client.send_offload(offload(1), b"jpeg")
        failed, gone = client.poll(PATIENCE_S)
        assert isinstance(failed, FailureReceived)
        assert gone == Disconnected(m.NO_SESSION)
        next_event(client, Connected)
        assert client.send_offload(offload(2), b"jpeg")
        next_event(client, ResultReceived)


def test_a_server_that_sends_without_end_does_not_keep_its_client(client: ClientEndpoint) -> None:
    def send_many(server: ServerEndpoint, received: Received) -> None:
        answer(server, received)
        if isinstance(received.content, m.Ping):
            while not stopped.is_set():
                server.send(received.peer, m.Pong(1))
                server.poll(0.0)

    stopped = threading.Event()
    with serving(handle=send_many) as address:
        client.connect(address)
        next_event(client, Connected)
        client.ping(1)
        for _ in range(20):
            assert len(client.poll(PATIENCE_S)) <= 64
        stopped.set()


def test_a_message_of_very_many_frames_ends_the_connection_to_its_server(client: ClientEndpoint) -> None:
    def send_frames(server: ServerEndpoint, received: Received) -> None:
        answer(server, received)
        if isinstance(received.content, m.Ping):
            server._connections[received.peer].send([b""] * 20_000)

    with serving(handle=send_frames) as address:
        client.connect(address)
        next_event(client, Connected)
        client.ping(1)
        events: list[object] = []
        while not any(isinstance(event, Disconnected) for event in events):
            events += client.poll(PATIENCE_S)
        next_event(client, Connected)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how many bytes a connection has received")
@pytest.mark.parametrize("part", [frame(bytes(200_000), more=True), frame(more=True) * 100_000], ids=["large", "empty"])
def test_a_message_without_end_ends_the_connection_to_its_server(client: ClientEndpoint, part: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client.connect(f"tcp://127.0.0.1:{listener.getsockname()[1]}")
        events: list[object] = []
        poller = threading.Thread(target=lambda: events.extend(poll_until_disconnected(client)))
        poller.start()
        raw, _ = listener.accept()
        with raw:
            raw.settimeout(PATIENCE_S)
            raw.sendall(GREETING + ready())
            while b"hello" not in raw.recv(65536):
                pass
            raw.sendall(frame(coding.encode(m.Welcome("blob", "ab12", GEOMETRY))[0]))
            with pytest.raises(OSError):
                send_without_end(raw, part)
        poller.join(PATIENCE_S)
        connected, gone = events
        assert isinstance(connected, Connected)
        assert gone == Disconnected("the server sent a bad message: a message of more than 4194304 bytes")


def send_without_end(raw: socket.socket, part: bytes) -> None:
    for _ in range(20_000):
        raw.sendall(part)


def poll_until_disconnected(client: ClientEndpoint) -> list[object]:
    events: list[object] = []
    while not any(isinstance(event, Disconnected) for event in events):
        events += client.poll(0.2)
    return events
