"""Addresses of MLflow tracking stores: how they are resolved and checked before MLflow opens them."""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from vitmalis.errors import UserError

SQLITE = "sqlite:///"
"""Beginning of the address of a SQLite store; the path of its file follows."""
CONNECT_TIMEOUT_S = 5.0
"""Longest wait for a connection to a tracking server when the store is opened."""


def resolve_address(tracking_uri: str) -> tuple[Path | None, str]:
    """The file of a SQLite store (None for a server) and the address to open the store by.

    The file's path is made absolute, because MLflow keeps stores open by their address, and a process may change its
    working directory. SQLite allows one writer at a time: parallel runs wait for each other instead of failing after
    5 s.

    Raises:
        UserError: the file of a SQLite store is a folder.
    """
    if not tracking_uri.startswith(SQLITE):
        return None, tracking_uri
    path, _, options = tracking_uri.removeprefix(SQLITE).partition("?")
    database = Path(path).absolute()
    if database.is_dir():
        raise UserError(
            f"mlflow.tracking_uri={tracking_uri}: '{database}' is a folder: name a file in it, such as mlflow.db"
        )
    return database, f"{SQLITE}{database}?{options or 'timeout=60'}"


def check_server(tracking_uri: str) -> None:
    """Check that something listens at the address of a tracking server; MLflow itself would retry for minutes.

    Raises:
        UserError: nothing answers there. Other kinds of addresses, and servers behind a proxy, are not checked.
    """
    url = urlsplit(tracking_uri)
    host = url.hostname or ""
    if url.scheme not in ("http", "https") or (url.scheme in getproxies() and not proxy_bypass(host)):
        return
    try:
        port = url.port or (443 if url.scheme == "https" else 80)
        socket.create_connection((host, port), CONNECT_TIMEOUT_S).close()
    except (OSError, ValueError) as error:
        raise UserError(
            f"mlflow.tracking_uri={tracking_uri}: no tracking server answers there ({error}): start it or correct the "
            "address; the default, sqlite:///runs/mlflow.db, needs none"
        ) from error
