"""The page of the live view over real HTTP: what it serves, to whom, to how many at a time."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator

import pytest

from vitmalis_jobs.run.live.page_server import MAX_CONNECTIONS, PageServer
from vitmalis_jobs.run.live.stream import NewestImage

PATIENCE_S = 60.0


@pytest.fixture
def images() -> NewestImage:
    return NewestImage()


@pytest.fixture
def server(images: NewestImage) -> Iterator[PageServer]:
    with PageServer(images, "vitmalis-<clip>-4g", "320x192 at 10 FPS") as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        images.close()
        server.shutdown()


def ask(server: PageServer, path: str, method: str = "GET", **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=PATIENCE_S)
    connection.request(method, path, headers=headers)
    return connection.getresponse()


def test_the_page_shows_the_stream_and_nothing_of_elsewhere(server: PageServer) -> None:
    answer = ask(server, "/")
    page = answer.read().decode()
    assert answer.status == 200
    assert "<h1>vitmalis-&lt;clip&gt;-4g</h1>" in page
    assert '<img src="/view.mjpg"' in page
    assert str(answer.headers["Content-Security-Policy"]).startswith("default-src 'none'; img-src 'self'")
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_it_listens_on_loopback_only(server: PageServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert server.url == f"http://127.0.0.1:{server.server_address[1]}"


@pytest.mark.parametrize("path", ["/../../etc/passwd", "/etc/passwd", "/view.mjpg/", "/?", "/%2e%2e/"])
def test_no_other_path_exists(server: PageServer, path: str) -> None:
    assert ask(server, path).status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_only_get_is_answered(server: PageServer, method: str) -> None:
    assert ask(server, "/", method).status == 501


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.org", "", "localhost:x", "::1"])
@pytest.mark.parametrize("path", ["/", "/view.mjpg"])
def test_a_page_whose_name_leads_here_gets_nothing(server: PageServer, path: str, host: str) -> None:
    assert ask(server, path, Host=host).status == 421


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "localhost:8080"])
def test_the_names_of_this_machine_are_answered_on_any_port(server: PageServer, host: str) -> None:
    """A tunnel (ssh -L) has another port than the server."""
    assert ask(server, "/", Host=host).status == 200


def test_a_watcher_gets_the_newest_image_and_the_end(server: PageServer, images: NewestImage) -> None:
    images.put(b"missed")
    images.put(b"first")
    answer = ask(server, "/view.mjpg")
    assert answer.headers["Content-Type"] == "multipart/x-mixed-replace; boundary=image"
    part = b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n--image\r\n"
    assert answer.read(9) == b"--image\r\n"
    first = part % (5, b"first")
    assert answer.read(len(first)) == first
    images.put(b"second")
    images.close()
    assert answer.read() in (part % (6, b"second"), b""), "the one that came before the end, if it was seen in time"


def test_nothing_is_watched_without_a_watcher(server: PageServer, images: NewestImage) -> None:
    assert not images.watched.is_set()
    watching = images.watch()
    images.put(b"first")
    assert next(watching) == b"first"
    assert images.watched.is_set()
    watching.close()  # type: ignore[attr-defined]
    assert not images.watched.is_set()


def test_connections_beyond_the_limit_are_closed(server: PageServer, images: NewestImage) -> None:
    images.put(b"image")
    watchers = [ask(server, "/view.mjpg") for _ in range(MAX_CONNECTIONS)]
    with socket.create_connection(server.server_address[:2], timeout=PATIENCE_S) as one_more:
        assert one_more.recv(1) == b""
    images.close()
    for watcher in watchers:
        assert b"image" in watcher.read()


def test_a_connection_without_a_thread_takes_no_place_of_others(images: NewestImage) -> None:
    """Directly, since the thread that would serve it cannot be started: a process has no more threads."""
    with PageServer(images, "title", "facts") as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", _no_thread)
        for _ in range(MAX_CONNECTIONS + 1):
            with pytest.raises(RuntimeError, match="can't start new thread"):
                server.process_request(None, None)


def _no_thread(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")
