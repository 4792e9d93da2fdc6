"""Who may speak to a server: CURVE keys in files, and the gate that knows them.

One folder a machine, made by `python -m vitmalis.keys`: a server's has its own pair and the public keys of its clients,
a client's has its own pair and the public key of its server. ZeroMQ encrypts and authenticates with them; a client that
the server does not know gets no further than the handshake.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import zmq
from zmq.auth import create_certificates, load_certificate
from zmq.auth.thread import ThreadAuthenticator

from vitmalis.errors import UserError

SERVER = "server"
"""Folder of the server's keys, and name of its pair."""
OWN = "own"
"""Name of a client's pair in its folder."""
CLIENTS = "clients"
"""Folder, in the server's, of the public keys that are let in."""
_LOGGED_REFUSALS = 20
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServerKeys:
    """The server's pair, and the public keys of the clients it serves by their names; keys are Z85 text."""

    public: bytes
    secret: bytes
    clients: dict[bytes, str]


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """A client's pair, and the public key that its server must prove to own; keys are Z85 text."""

    public: bytes
    secret: bytes
    server: bytes

    def lock(self, end: zmq.Socket) -> None:
        """Have a socket speak with these keys only."""
        end.curve_publickey, end.curve_secretkey, end.curve_serverkey = self.public, self.secret, self.server


class Gate:
    """Lets known clients through to the sockets of a context, and counts the others.

    Attributes:
        refused: handshakes of unknown clients so far.
    """

    def __init__(self, context: zmq.Context, keys: ServerKeys) -> None:
        self.refused = 0
        self._keys = keys
        self._authenticator = ThreadAuthenticator(context)
        self._authenticator.start()
        self._authenticator.configure_curve_callback("*", self)

    def lock(self, end: zmq.Socket) -> None:
        """Have a socket accept known clients only; before it is bound."""
        end.curve_publickey, end.curve_secretkey, end.curve_server = self._keys.public, self._keys.secret, True

    def callback(self, domain: str, key: bytes) -> bool:
        """Whether the owner of this public key may come in; pyzmq calls this by its name in a thread of its own."""
        name = self._keys.clients.get(key)
        if name is None:
            self.refused += 1
            level = logging.WARNING if self.refused <= _LOGGED_REFUSALS else logging.DEBUG
            _log.log(level, "a client with the unknown key %s was refused", key.decode())
            return False
        _log.info("the key of client %r was accepted", name)
        return True

    def close(self) -> None:
        """End the thread."""
        self._authenticator.stop()


def make_keys(folder: Path, clients: list[str]) -> list[Path]:
    """Make the server's keys where there are none, and those of new clients, whom the server then knows.

    Args:
        folder: gets one folder a machine: `server`, and one by the name of each client.
        clients: their names.

    Returns:
        The folders made.

    Raises:
        UserError: a name is not usable, or a client of this name has keys already.
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
    """What is written inside the block is for its owner alone (mode 600, folders 700) from the first moment."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def read_server_keys(folder: Path) -> ServerKeys:
    """Read a server's folder; raises `UserError` where something is missing, unreadable or open to others."""
    public, secret = _pair(folder, SERVER)
    allowed = folder / CLIENTS
    names = {_load(path)[0]: path.stem for path in sorted(allowed.glob("*.key"))}
    if not names:
        raise UserError(f"'{allowed}' holds no client's key: python -m vitmalis.keys {folder.parent} --client NAME")
    return ServerKeys(public, secret, names)


def read_client_keys(folder: Path) -> ClientKeys:
    """Read a client's folder; raises `UserError` where something is missing, unreadable or open to others."""
    public, secret = _pair(folder, OWN)
    return ClientKeys(public, secret, _load(folder / f"{SERVER}.key")[0])


def _pair(folder: Path, name: str) -> tuple[bytes, bytes]:
    path = folder / f"{name}.key_secret"
    public, secret = _load(path)
    if secret is None:
        raise UserError(f"key file '{path}' has no secret key: make the folder anew with python -m vitmalis.keys")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise UserError(f"key file '{path}' is open to others (mode {mode:o}): chmod 600 it")
    return public, secret


def _load(path: Path) -> tuple[bytes, bytes | None]:
    try:
        keys = load_certificate(path)
    except (OSError, ValueError) as error:
        raise UserError(
            f"key file '{path}' cannot be read ({error}): python -m vitmalis.keys makes the folder of a machine"
        ) from error
    for key in keys:
        if key is not None and len(key) != 40:
            raise UserError(f"key file '{path}' is damaged: a key of {len(key)} characters, 40 are expected")
    return keys


def is_local(address: str) -> bool:
    """Whether only this machine can reach a listening address (tcp://host:port, ipc://file or inproc://name)."""
    scheme, _, rest = address.partition("://")
    if scheme in ("ipc", "inproc") or not rest:
        return True
    host = (rest.rpartition(":")[0] or rest).strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # `*`, an interface or a name
        return False
