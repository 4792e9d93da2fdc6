"""The HTTP server of the live view: one page and one stream of JPEG images, on loopback alone."""

from __future__ import annotations

import html
import logging
import socket
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from vitmalis_jobs.run.live.stream import NewestImage

_log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
STREAM_PATH = "/view.mjpg"
MAX_CONNECTIONS = 16
"""Connections beyond are closed at once; a browser takes one for each tab that watches, and one more for its page."""
SILENT_S = 10.0
"""A connection that neither sends its request nor takes images for longer is closed."""
_SEND_BUFFER_BYTES = 256 * 1024  # a watcher that is slow sees the newest image, not the next of many in the socket
_LOCAL_NAMES = {LOOPBACK, "localhost"}
_BOUNDARY = "image"
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>live: {title}</title>
<link rel="icon" href="data:,">
<style>
body {{ margin: 0; background: #181a1f; color: #eceef2; font: 14px/1.5 system-ui, sans-serif; }}
header {{ padding: 10px 12px; }}
h1 {{ display: inline; font-size: 17px; margin-right: 12px; }}
p {{ display: inline; color: #a0a6b2; }}
img {{ display: block; width: 100%; max-height: calc(100vh - 46px); object-fit: contain; object-position: left top; }}
</style>
<header><h1>{title}</h1><p>{facts}</p></header>
<img src="{stream}" alt="the frame with its boxes, and the last offload">
</html>
"""


class PageServer(ThreadingHTTPServer):
    """Serves the page and the stream, each connection in a thread of its own.

    Args:
        images: the newest image.
        title: of the page.
        facts: a line about the run.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, images: NewestImage, title: str, facts: str) -> None:
        super().__init__((LOOPBACK, 0), _Handler)
        self.images = images
        self.page = _PAGE.format(title=html.escape(title), facts=html.escape(facts), stream=STREAM_PATH).encode()
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"http://{LOOPBACK}:{self.server_address[1]}"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread, or close it if there are too many."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # there is no thread for it
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection, then make room for another."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what ended a connection; most often it is a watcher that went away."""
        _log.debug("a connection to the live view ended", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    """Answers one request: HTTP/1.0, so that each connection has one."""

    server: PageServer
    timeout = SILENT_S

    def do_GET(self) -> None:
        """Answer with the page or the stream.

        Only the names of this machine are answered: a page of another site whose name leads here (DNS rebinding) sends
        its own name, and gets nothing. The port may be another, as that of an SSH tunnel is.
        """
        if not _names_this_machine(self.headers.get("Host", "")):
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST)
        elif self.path == "/":
            self._begin("text/html; charset=utf-8", len(self.server.page))
            self.wfile.write(self.server.page)
        elif self.path == STREAM_PATH:
            self._stream()
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def _stream(self) -> None:
        """Send images until the run ends or the watcher is gone.

        A boundary follows each image at once: browsers draw an image when they see what comes after it.
        """
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        self._begin(f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
        self.wfile.write(f"--{_BOUNDARY}\r\n".encode())
        for jpeg in self.server.images.watch():
            self.wfile.write(f"Content-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n".encode())
            self.wfile.write(jpeg)
            self.wfile.write(f"\r\n--{_BOUNDARY}\r\n".encode())

    def _begin(self, content_type: str, length: int | None = None) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", content_type)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Log a request, and not to the terminal, on which the run reports."""
        _log.debug(format, *arguments)


def _names_this_machine(host: str) -> bool:
    name, _, port = host.partition(":")
    return name in _LOCAL_NAMES and (not port or port.isdecimal())
