"""Authentication and encryption: CURVE keys in files, and the server's check of client keys.

`python -m vitmalis.keys` makes one folder per machine: a server's has its own key pair and the public keys of its
clients, a client's has its own key pair and the public key of its server. ZeroMQ encrypts and authenticates with them;
a client that the server does not know fails in the handshake.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import zmq
from zmq.auth import create_certificates, load_certificate
from zmq.utils import z85

from vitmalis.errors import UserError
from vitmalis.network.addresses import split_address
from vitmalis.network.wire.peer_log import LogLimit

SERVER = "server"
"""Name of the server's folder and of its key pair."""
OWN = "own"
"""Name of a client's key pair in its folder."""
CLIENTS = "clients"
"""Subfolder of the server's folder with the public keys of the clients that it serves."""
_KEY_CHARS = 40
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServerKeys:
    """The server's key pair, and the names of the clients it serves by their public keys; keys are Z85 text."""

    public: bytes
    secret: bytes
    clients: dict[bytes, str]


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """A client's key pair, and the public key of the only server it accepts; keys are Z85 text."""

    public: bytes
    secret: bytes
    server: bytes

    def secure(self, sock: zmq.Socket) -> None:
        """Have a socket encrypt with these keys, and accept only this server."""
        sock.curve_publickey, sock.curve_secretkey, sock.curve_serverkey = self.public, self.secret, self.server


class ClientAuthenticator:
    """Accepts the handshakes of known clients on the sockets of a context, and refuses and counts all others.

    ZeroMQ asks over a socket of the same context (ZAP, RFC 27), which is answered in the thread that calls `answer`.

    Attributes:
        refused: number of refused handshakes so far.
    """

    def __init__(self, context: zmq.Context, keys: ServerKeys) -> None:
        self.refused = 0
        self._keys = keys
        self._log_limit = LogLimit()
        self._requests = context.socket(zmq.REP)
        self._requests.setsockopt(zmq.LINGER, 0)
        self._requests.bind("inproc://zeromq.zap.01")

    def secure(self, sock: zmq.Socket) -> None:
        """Have a socket, not bound yet, accept known clients only."""
        sock.curve_publickey, sock.curve_secretkey, sock.curve_server = self._keys.public, self._keys.secret, True

    def fileno(self) -> int:
        """File descriptor that is readable once `answer` has something to do."""
        return int(self._requests.getsockopt(zmq.FD))

    def answer(self) -> None:
        """Answer all requests that have arrived."""
        while True:
            try:
                version, request, *_, mechanism, credentials = self._requests.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            name = self._client_name(z85.encode(credentials)) if mechanism == b"CURVE" else None
            status = (b"400", b"unknown key", b"") if name is None else (b"200", b"OK", name.encode())
            self._requests.send_multipart([version, request, *status, b""])

    def _client_name(self, key: bytes) -> str | None:
        name = self._keys.clients.get(key)
        kind = "refused" if name is None else "accepted"
        self.refused += name is None
        if self._log_limit.allows(kind):
            shown = key.decode() if name is None else name
            _log.log(logging.WARNING if name is None else logging.INFO, "the key of client %r was %s", shown, kind)
        return name

    def close(self) -> None:
        """Close the socket that ZeroMQ asks over."""
        self._requests.close(0)


def make_keys(folder: Path, clients: list[str]) -> list[Path]:
    """Make keys for new clients, which the server then knows, and for the server if it has none.

    Args:
        folder: parent of one folder per machine: `server`, and one named after each client.
        clients: names of the new clients.

    Returns:
        The folders made.

    Raises:
        UserError: a name cannot be used, or a client of this name already has keys.
    """
    for name in clients:
        if name in (SERVER, CLIENTS) or not name.replace("-", "").replace("_", "").isalnum():
            raise UserError(f"client name '{name}': use letters, digits, '-' and '_', and not '{SERVER}'")
        if (folder / name).exists():
            raise UserError(
                f"'{folder / name}' exists: delete it to make new keys for '{name}', or choose another name"
            )
    server, made = folder / SERVER, []
    with _private_files():
        if not server.exists():
            (server / CLIENTS).mkdir(parents=True)
            create_certificates(server, SERVER)
            made.append(server)
        for name in clients:
            own = folder / name
            own.mkdir()
            create_certificates(own, OWN)
            (own / f"{SERVER}.key").write_bytes((server / f"{SERVER}.key").read_bytes())
            (server / CLIENTS / f"{name}.key").write_bytes((own / f"{OWN}.key").read_bytes())
            made.append(own)
    return made


@contextmanager
def _private_files() -> Iterator[None]:
    """Create files inside the block with mode 600 and folders with mode 700, from the first moment."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def read_server_keys(folder: Path) -> ServerKeys:
    """Read a server's folder; raise `UserError` if a file is missing, unreadable or open to others."""
    public, secret = _pair(folder, SERVER)
    allowed = folder / CLIENTS
    _check_unchangeable(allowed, *allowed.glob("*.key"))
    names = {_load(path)[0]: path.stem for path in sorted(allowed.glob("*.key"))}
    if not names:
        raise UserError(f"'{allowed}' holds no client's key: python -m vitmalis.keys {folder.parent} --client NAME")
    return ServerKeys(public, secret, names)


def read_client_keys(folder: Path) -> ClientKeys:
    """Read a client's folder; raise `UserError` if a file is missing, unreadable or open to others."""
    public, secret = _pair(folder, OWN)
    _check_unchangeable(folder / f"{SERVER}.key")
    return ClientKeys(public, secret, _load(folder / f"{SERVER}.key")[0])


def _pair(folder: Path, name: str) -> tuple[bytes, bytes]:
    path = folder / f"{name}.key_secret"
    public, secret = _load(path)
    if secret is None:
        raise UserError(f"key file '{path}' has no secret key: make the folder again with python -m vitmalis.keys")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise UserError(f"key file '{path}' is open to others (mode {mode:o}): chmod 600 it")
    _check_unchangeable(folder, path)
    return public, secret


def _check_unchangeable(*paths: Path) -> None:
    """Raise `UserError` for a file or folder that another user may change: he would choose whom to trust."""
    for path in paths:
        try:
            status = path.stat()
        except OSError:  # reading it says so
            continue
        mode = stat.S_IMODE(status.st_mode)
        if mode & 0o022:
            raise UserError(f"'{path}' can be changed by other users (mode {mode:o}): chmod go-w it")
        if status.st_uid not in (0, os.geteuid()):
            raise UserError(f"'{path}' belongs to user {status.st_uid}, not to you: chown it, or make keys of your own")


def _load(path: Path) -> tuple[bytes, bytes | None]:
    try:
        keys = load_certificate(path)
    except (OSError, ValueError) as error:
        raise UserError(
            f"key file '{path}' cannot be read ({error}): python -m vitmalis.keys makes the folder of a machine"
        ) from error
    for key in keys:
        if key is not None and (problem := _problem(key)):
            raise UserError(
                f"key file '{path}' is damaged: {problem}; copy it again, or make the folder again with python -m "
                "vitmalis.keys"
            )
    return keys


def _problem(key: bytes) -> str:
    """Why a text is no key in Z85; empty if it is one."""
    if len(key) != _KEY_CHARS:
        return f"a key of {len(key)} characters, {_KEY_CHARS} are expected"
    try:
        z85.decode(key)
    except (KeyError, struct.error):  # of a character, or of five together
        return "a key with characters that no key has"
    return ""


def is_local(address: str) -> bool:
    """Whether only this machine can reach a listening address.

    Raises:
        ValueError: it is no address.
    """
    host, _ = split_address(address)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # `*` or a name
        return False
