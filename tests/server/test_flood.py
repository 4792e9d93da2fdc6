"""A client that never ends its message, which ZeroMQ would collect for ever."""

from __future__ import annotations

import socket
import struct
import threading

from tests.server.blob_server import BlobDetector
from tests.server.conftest import PATIENCE_S, jpeg, next_event, next_events, offload
from vitmalis.network.wire.client_endpoint import ClientEndpoint
from vitmalis.network.wire.events import Connected, Disconnected, ResultReceived
from vitmalis.server.endpoint import ServerEndpoint
from vitmalis.server.service import Service
from vitmalis.server.worker import Limits

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
"""ZMTP 3.0 without security (ZeroMQ RFC 23)."""
READY = b"\x05READY\x0bSocket-Type" + struct.pack(">I", 6) + b"DEALER"
MORE_LONG_FRAME = b"\x03" + struct.pack(">Q", 2**20)


def flood(address: str) -> None:
    """Send frames of one endless message until the server closes the connection."""
    host, port = address.removeprefix("tcp://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as raw:
        raw.sendall(GREETING + b"\x04" + bytes([len(READY)]) + READY)
        frame = MORE_LONG_FRAME + bytes(2**20)
        try:
            for _ in range(20_000):
                raw.sendall(frame)
        except OSError:
            return
    raise AssertionError("20 GB were taken")


def test_an_endless_message_closes_connections_and_honest_clients_return(client: ClientEndpoint) -> None:
    with ServerEndpoint("tcp://127.0.0.1:0", 2**20) as endpoint:
        service = Service(endpoint, BlobDetector(), Limits(max_growth_bytes=64 * 2**20))
        service.warm_up()
        thread = threading.Thread(target=service.run)
        thread.start()
        address = endpoint.address
        client.connect(address)
        next_event(client, Connected)
        flood(address)
        gone, back = next_events(client, 2)
        assert isinstance(gone, Disconnected)
        assert isinstance(back, Connected)
        assert client.send_offload(offload(1), jpeg())
        next_event(client, ResultReceived)
        service.stop()
        thread.join(PATIENCE_S)
        assert service.close(PATIENCE_S)
        assert service.counts["flooded"] >= 1
        assert endpoint.address == address
