from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from tests.server.blob_server import GEOMETRY, BlobDetector
from vitmalis.codec.jpeg import encode_jpeg
from vitmalis.network.wire import coding
from vitmalis.network.wire import messages as m
from vitmalis.network.wire.client_endpoint import ClientEndpoint
from vitmalis.network.wire.events import Connected, Event
from vitmalis.process import Child
from vitmalis.regions import ModelGeometry
from vitmalis.server.decoding import DetectorLike
from vitmalis.server.endpoint import ServerEndpoint
from vitmalis.server.service import Service
from vitmalis.server.worker import Limits
from vitmalis.types import BoolMask, Configuration, RgbImage

PATIENCE_S = 120.0
ROOT = Path(__file__).parents[2]
SIZE = (320, 192)
RED_BOX = (64, 32, 128, 96)


def scene(size: tuple[int, int] = SIZE) -> RgbImage:
    """A grey image with a red box aligned to JPEG blocks."""
    image = np.full((size[1], size[0], 3), 100, np.uint8)
    x0, y0, x1, y1 = RED_BOX
    image[y0:y1, x0:x1] = (230, 20, 20)
    return image


def jpeg(size: tuple[int, int] = SIZE) -> bytes:
    return encode_jpeg(scene(size), 95)


def offload(
    seq: int,
    size: tuple[int, int] = SIZE,
    configuration: Configuration | None = None,
    mask: BoolMask | None = None,
    geometry: ModelGeometry = GEOMETRY,
) -> m.Offload:
    return m.Offload.of(
        seq,
        seq,
        size,
        configuration or Configuration(),
        downsample_mask=mask,
        window_size=geometry.window,
        downsampling_factor=geometry.factor,
    )


def next_event(client: ClientEndpoint, kind: type) -> Event:
    """Poll for the next event, which must be the only one and of this kind."""
    (event,) = next_events(client, 1)
    assert isinstance(event, kind), event
    return event


def next_events(client: ClientEndpoint, count: int) -> list[Event]:
    """Poll until `count` events have arrived, and no more than these."""
    events: list[Event] = []
    deadline_s = time.monotonic() + PATIENCE_S
    while len(events) < count and time.monotonic() < deadline_s:
        events += client.poll(1.0)
    assert len(events) == count, f"{events}; last error: {client.last_error}"
    return events


def blob_server(folder: Path, address: str = "tcp://127.0.0.1:0", shell: Sequence[str] = ()) -> Child:
    """A server process, of this checkout even where another one is installed."""
    environment = {"PYTHONPATH": os.pathsep.join(map(str, (ROOT / "src", ROOT)))}
    return Child("blob server", "tests.server.blob_server", [address], folder / "server.log", environment, shell)


@contextmanager
def running(service: Service) -> Iterator[None]:
    """Run a service in a thread of this process."""
    service.warm_up()
    thread = threading.Thread(target=service.run)
    thread.start()
    try:
        yield
    finally:
        service.stop()
        thread.join(PATIENCE_S)
        assert service.close(PATIENCE_S)


@contextmanager
def served(detector: DetectorLike, **options: Any) -> Iterator[str]:
    """Serve a detector in a thread of this process, with options of `Service`; its address."""
    with ServerEndpoint("tcp://127.0.0.1:0") as endpoint, running(Service(endpoint, detector, **options)):
        yield endpoint.address


@contextmanager
def serving(
    max_connections: int = 1024, max_growth_bytes: int | None = None
) -> Iterator[tuple[Service, ServerEndpoint]]:
    """A service in a thread of this process, and its endpoint."""
    with ServerEndpoint("tcp://127.0.0.1:0", 2**20, max_connections=max_connections) as endpoint:
        service = Service(endpoint, BlobDetector(), Limits(max_growth_bytes=max_growth_bytes))
        with running(service):
            yield service, endpoint


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"tcp://127.0.0.1:{listener.getsockname()[1]}"


class RawClient:
    """A DEALER that sends arbitrary frames."""

    def __init__(self, address: str) -> None:
        self._context = zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(address)

    def send(self, *frames: bytes) -> None:
        self.socket.send_multipart(frames)

    def receive(self) -> m.ServerMessage:
        assert self.socket.poll(round(PATIENCE_S * 1e3)), "no answer"
        return coding.decode_from_server(self.socket.recv_multipart())[0]

    def close(self) -> None:
        self.socket.close(0)
        self._context.term()

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@pytest.fixture
def client() -> Iterator[ClientEndpoint]:
    with ClientEndpoint("test") as endpoint:
        yield endpoint


@pytest.fixture
def connected(client: ClientEndpoint, server_address: str) -> ClientEndpoint:
    """Connected to the fixture `server_address` of the test's own module."""
    client.connect(server_address)
    next_event(client, Connected)
    return client
