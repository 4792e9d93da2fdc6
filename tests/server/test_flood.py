"""Floods: messages without end, of many frames, or on many connections; each ends its own connection alone."""

from __future__ import annotations

import gc
from contextlib import ExitStack, suppress

import pytest

from tests.server.conftest import jpeg, next_event, next_events, offload, serving
from vitmalis.network.wire.client_endpoint import ClientEndpoint
from vitmalis.network.wire.events import Connected, Disconnected, ResultReceived
from vitmalis.server.heap import HeapTrimmer
from vitmalis.server.memory import MemoryGuard
from vitmalis_jobs.validation.raw_peer import closed_by_peer, frame, hello, zmtp

PART = frame(bytes(2**20), more=True)


def serve_one(client: ClientEndpoint, seq: int) -> None:
    assert client.send_offload(offload(seq), jpeg())
    next_event(client, ResultReceived)


def send_without_end(address: str, start: bytes, part: bytes) -> None:
    """Send the same part of one message until the server closes the connection."""
    with zmtp(address) as raw:
        raw.sendall(start)
        try:
            for _ in range(20_000):
                raw.sendall(part)
        except OSError:
            return
    raise AssertionError("the message was taken without end")


@pytest.mark.parametrize(
    ("start", "part"),
    [
        (hello(), PART),
        (b"", PART),
        (hello(), frame(more=True) * 100_000),
        (b"", frame(more=True) * 100_000),
        (hello(), frame(b"\x04PING\0\0", command=True) * 100_000),
    ],
    ids=["large", "large before hello", "empty frames", "empty frames before hello", "commands"],
)
def test_a_message_without_end_closes_its_connection_alone(client: ClientEndpoint, start: bytes, part: bytes) -> None:
    with serving() as (service, endpoint):
        client.connect(endpoint.address)
        next_event(client, Connected)
        send_without_end(endpoint.address, start, part)
        serve_one(client, 1)
        assert client.poll(0.0) == []
        assert endpoint.closed["oversized"] == 1
        assert service.counts == {"served": 1}


def test_a_complete_message_of_very_many_frames_is_not_read(client: ClientEndpoint) -> None:
    with serving() as (_, endpoint):
        client.connect(endpoint.address)
        next_event(client, Connected)
        with zmtp(endpoint.address) as raw:
            raw.sendall(hello() + frame(more=True) * 50_000 + frame())
            assert closed_by_peer(raw)
        serve_one(client, 1)
        assert endpoint.closed["oversized"] == 1


def test_many_unfinished_messages_together_are_bounded_by_memory(client: ClientEndpoint) -> None:
    """Each of 100 connections holds 1.9 MB of a message: as much as one may have, but too much in all."""
    gc.collect()
    HeapTrimmer(interval_s=0.0).trim()  # messages that fit into memory which earlier tests left free are no growth
    part = frame(bytes(950_000), more=True)
    with serving(max_growth_bytes=64 * 2**20) as (service, endpoint), ExitStack() as stack:
        client.connect(endpoint.address)
        next_event(client, Connected)
        for _ in range(100):
            if service.counts["flooded"]:
                break
            raw = stack.enter_context(zmtp(endpoint.address))
            raw.sendall(hello())
            raw.recv(1)
            with suppress(OSError):  # the memory may be full now
                raw.sendall(part + part)
        for _ in range(100):
            if service.counts["flooded"]:
                break
            client.poll(0.1)
        assert service.counts["flooded"] >= 1
        stack.close()
        while not client.connected:  # it may have been disconnected too
            client.poll(1.0)
        serve_one(client, 1)


def test_growth_is_measured_from_one_moment_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Floods of 90 MB each that leave 60 MB behind reach a bound of 100 MB with the second, not never."""
    sizes = iter([500, 500, 590, 560, 620])
    monkeypatch.setattr("vitmalis.server.memory.ResidentMemory.bytes", lambda _: next(sizes) * 2**20)
    monkeypatch.setattr("vitmalis.server.memory._INTERVAL_S", 0.0)
    guard = MemoryGuard(100 * 2**20)
    guard.set_zero()
    assert [guard.exceeded() for _ in range(3)] == [False, False, True]
    guard.close()


def test_a_client_that_floods_is_only_disconnected(client: ClientEndpoint) -> None:
    with serving() as (_, endpoint):
        client.connect(endpoint.address)
        next_event(client, Connected)
        connection = client._connection
        assert connection is not None
        connection.dealer.send_multipart([b""] * 50_000)
        gone, back = next_events(client, 2)
        assert isinstance(gone, Disconnected)
        assert isinstance(back, Connected)
        serve_one(client, 1)
