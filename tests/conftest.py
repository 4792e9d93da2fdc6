"""Fixtures that every part's tests share."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, settings

from tests.policy.small_world import write_estimators, write_tables
from vitmalis import repository_files

SHARED = Path(__file__).parents[2] / "shared"

# No property fails because the machine is busy.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

if not Path("/dev/nvidiactl").exists():
    # Without a GPU Triton's kernels run in its interpreter; Triton asks once, when torch imports it.
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The development data next to the checkout; tests that need it skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("the development data (../shared) is not on this machine")
    return SHARED


@pytest.fixture(scope="session")
def vitmalis_options(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Arguments of `build_policy("vitmalis", ...)`: synthetic estimators and tables instead of measured ones."""
    folder = tmp_path_factory.mktemp("estimation")
    write_estimators(folder)
    return {"estimators": str(folder), "latency_tables": str(write_tables(folder / "tables.json"))}


@pytest.fixture
def publisher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A server of the repositories in `tmp_path / "mirror"`; yields the paths that are requested."""
    requested: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requested.append(unquote(self.path))
            _, _, repository, _commit, path = requested[-1].split("/", 4)
            file = tmp_path / "mirror" / repository / path
            content = file.read_bytes() if file.is_file() else b""
            self.send_response(200 if file.is_file() else 404)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setattr(repository_files, "HOST", f"http://127.0.0.1:{server.server_port}")
        yield requested
        server.shutdown()
        thread.join()
