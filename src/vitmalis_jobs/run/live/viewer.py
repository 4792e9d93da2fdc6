"""The viewer of a run: asks the client for what it renders, as long as someone watches, and serves it as a page."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path

from vitmalis.client.view import NEXT, decode_view
from vitmalis.codec.jpeg import encode_jpeg
from vitmalis.paths import socket_folder
from vitmalis.types import Detections, RgbImage
from vitmalis_jobs.run.live.drawing import ViewPainter
from vitmalis_jobs.run.live.page_server import PageServer
from vitmalis_jobs.run.live.stream import NewestImage
from vitmalis_jobs.run.spec import PreparedRun

MIN_INTERVAL_S = 1 / 15
"""Least time between two images; a slow machine takes at least as long a pause as it took to draw one."""
_QUALITY = 85
_NICENESS = 5
_POLL_S = 0.2


class Viewer(threading.Thread):
    """Thread that takes views from the client, draws and encodes them, each only while someone watches.

    It runs at a low priority, and no faster than `MIN_INTERVAL_S`.

    Args:
        path: of the Unix socket that the client connects to.
        painter: draws the views.
        images: where the encoded images go.
    """

    def __init__(self, path: Path, painter: ViewPainter, images: NewestImage) -> None:
        super().__init__(name="live view", daemon=True)
        self._painter = painter
        self._images = images
        self._stopping = threading.Event()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(path))
        self._socket.listen(1)
        self._socket.settimeout(_POLL_S)

    def run(self) -> None:
        """Show the client that connects, to its end."""
        with suppress(OSError):  # some systems refuse it
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        self._show(self._painter.waiting())
        with self._socket:
            client = self._accept()
        if client is not None:
            with client, suppress(OSError, EOFError):  # the client has ended
                self._follow(client)
        self._images.close()

    def stop(self) -> None:
        """End the thread, and every stream."""
        self._stopping.set()
        self.join(timeout=2.0)
        self._images.close()

    def _accept(self) -> Connection | None:
        while not self._stopping.is_set():
            with suppress(TimeoutError):
                connection, _ = self._socket.accept()
                connection.setblocking(True)
                return Connection(connection.detach())
        return None

    def _follow(self, client: Connection) -> None:
        while not self._stopping.is_set():
            if not self._images.watched.wait(_POLL_S):
                continue
            start_s = time.monotonic()
            client.send_bytes(NEXT)
            while not client.poll(_POLL_S):
                if self._stopping.is_set():
                    return
            self._show(self._painter.draw(decode_view(client.recv_bytes())))
            took_s = time.monotonic() - start_s
            self._stopping.wait(max(MIN_INTERVAL_S - took_s, took_s))

    def _show(self, image: RgbImage) -> None:
        self._images.put(encode_jpeg(image, _QUALITY))


@contextmanager
def live_view(run: PreparedRun, references: Sequence[Detections] | None) -> Iterator[tuple[str, list[str]]]:
    """Serve the live view of a run; yields the page's address, and the arguments by which the client takes part.

    Args:
        run: that is about to play.
        references: the reference of each frame index; None where F1 is unknown.
    """
    grid = run.spec.model.geometry.grid(run.clip.width, run.clip.height)
    painter = ViewPainter(grid, run.clip.fps, run.spec.rule, references)
    images = NewestImage()
    facts = f"{run.clip.width}x{run.clip.height} at {run.clip.fps:g} FPS, {run.config.model.name}"
    with socket_folder() as folder, PageServer(images, run.spec.title, facts) as server:
        viewer = Viewer(folder / "view", painter, images)
        viewer.start()
        threading.Thread(target=server.serve_forever, name="live page", daemon=True).start()
        try:
            yield server.url, [f"--view={folder / 'view'}"]
        finally:
            viewer.stop()
            server.shutdown()
