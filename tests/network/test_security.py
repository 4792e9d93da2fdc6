"""Keys: which clients are accepted, what a wiretap can read, and the files of keys."""

from __future__ import annotations

import dataclasses
import os
import re
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zmq

from tests.server.blob_server import BlobDetector
from tests.server.conftest import PATIENCE_S, jpeg, next_event, offload, running
from vitmalis import keys as command
from vitmalis.errors import UserError
from vitmalis.network.wire import coding
from vitmalis.network.wire import messages as m
from vitmalis.network.wire.client_endpoint import ClientEndpoint
from vitmalis.network.wire.events import Connected, ResultReceived
from vitmalis.network.wire.security import is_local, make_keys, read_client_keys, read_server_keys
from vitmalis.server.endpoint import ServerEndpoint
from vitmalis.server.service import Service

JPEG_START = b"\xff\xd8\xff"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_keys(tmp_path / "keys", ["device"])
    return tmp_path / "keys"


@contextmanager
def serving(folder: Path | None) -> Iterator[ServerEndpoint]:
    keys = None if folder is None else read_server_keys(folder / "server")
    with ServerEndpoint("tcp://127.0.0.1:0", 2**20, keys) as endpoint, running(Service(endpoint, BlobDetector())):
        yield endpoint


def offload_through(address: str, keys_folder: Path | None) -> None:
    """Connect, offload a frame, and wait for its detections."""
    keys = None if keys_folder is None else read_client_keys(keys_folder)
    with ClientEndpoint("device", keys=keys) as client:
        client.connect(address)
        next_event(client, Connected)
        assert client.send_offload(offload(1), jpeg())
        next_event(client, ResultReceived)


def rejected(address: str, keys_folder: Path | None, words: str) -> None:
    """Try to connect until the error contains `words`; no event may arrive."""
    keys = None if keys_folder is None else read_client_keys(keys_folder)
    deadline_s = time.monotonic() + PATIENCE_S
    with ClientEndpoint("device", keys=keys) as client:
        client.connect(address)
        while words not in client.last_error:
            assert client.poll(0.1) == []
            assert time.monotonic() < deadline_s, client.last_error


class Wiretap:
    """Passes bytes between a client and a server, and records them."""

    def __init__(self, upstream: str) -> None:
        self.recorded = bytearray()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        host, port = upstream.removeprefix("tcp://").split(":")
        self._upstream = host, int(port)
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        client, _ = self._listener.accept()
        with client, socket.create_connection(self._upstream) as server, selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ, server)
            selector.register(server, selectors.EVENT_READ, client)
            while True:
                for key, _ in selector.select():
                    data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                    if not data:
                        return
                    self.recorded += data
                    key.data.sendall(data)


def test_a_client_with_keys_is_served(folder: Path) -> None:
    with serving(folder) as endpoint:
        offload_through(endpoint.address, folder / "device")
        assert endpoint.refused_handshakes == 0


def test_without_a_known_key_there_is_no_answer_and_it_is_counted(folder: Path, tmp_path: Path) -> None:
    make_keys(tmp_path / "others", ["stranger"])
    public = (folder / "server" / "server.key").read_bytes()
    (tmp_path / "others" / "stranger" / "server.key").write_bytes(public)
    with serving(folder) as endpoint:
        rejected(endpoint.address, tmp_path / "others" / "stranger", "does not know the key")
        assert endpoint.refused_handshakes >= 1
        rejected(endpoint.address, None, "only one side has keys")
        offload_through(endpoint.address, folder / "device")


def test_a_client_accepts_its_own_server_only(folder: Path, tmp_path: Path) -> None:
    make_keys(tmp_path / "impostor", ["device"])
    allowed = tmp_path / "impostor" / "server" / "clients" / "device.key"
    allowed.write_bytes((folder / "device" / "own.key").read_bytes())
    with serving(tmp_path / "impostor") as endpoint:
        rejected(endpoint.address, folder / "device", "another server's key")


def test_raw_messages_without_keys_are_not_answered(folder: Path) -> None:
    with serving(folder) as endpoint, zmq.Context() as context:
        raw = context.socket(zmq.DEALER)
        raw.setsockopt(zmq.LINGER, 0)
        raw.connect(endpoint.address)
        raw.send_multipart(coding.encode(m.Hello("x")))
        assert raw.poll(1000) == 0
        raw.close(0)


@pytest.mark.parametrize("with_keys", [False, True])
def test_only_without_keys_a_wiretap_sees_the_image(folder: Path, with_keys: bool) -> None:
    with serving(folder if with_keys else None) as endpoint:
        tap = Wiretap(endpoint.address)
        offload_through(tap.address, folder / "device" if with_keys else None)
        assert len(tap.recorded) > len(jpeg())
        assert (JPEG_START in tap.recorded) is not with_keys
        assert (b"offload" in tap.recorded) is not with_keys


def test_secret_files_are_readable_by_their_owner_only(folder: Path) -> None:
    for path in folder.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
    secret = folder / "device" / "own.key_secret"
    secret.chmod(0o640)
    with pytest.raises(UserError, match=r"open to others \(mode 640\): chmod 600"):
        read_client_keys(folder / "device")


@pytest.mark.parametrize(
    ("changed", "mode"),
    [("server", 0o777), ("server", 0o770), ("server/clients", 0o733), ("server/clients/device.key", 0o666),
     ("device", 0o722), ("device/server.key", 0o620)],
)  # fmt: skip
def test_keys_that_others_could_exchange_are_refused(folder: Path, changed: str, mode: int) -> None:
    read_server_keys(folder / "server")
    read_client_keys(folder / "device")
    (folder / changed).chmod(mode)
    read = read_server_keys if changed.startswith("server") else read_client_keys
    with pytest.raises(UserError, match=rf"{changed}' can be changed by other users \(mode {mode:o}\): chmod go-w"):
        read(folder / Path(changed).parts[0])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("owned", ["server", "server/clients", "server/clients/device.key", "server/server.key_secret"])
def test_keys_of_another_user_are_refused(folder: Path, owned: str) -> None:
    os.chown(folder / owned, 12_345, -1)
    with pytest.raises(UserError, match=f"{owned}' belongs to user 12345"):
        read_server_keys(folder / "server")


def test_a_second_client_is_added_and_existing_keys_are_kept(folder: Path) -> None:
    before = (folder / "server" / "server.key_secret").read_bytes()
    assert [path.name for path in make_keys(folder, ["phone"])] == ["phone"]
    assert (folder / "server" / "server.key_secret").read_bytes() == before
    assert sorted(read_server_keys(folder / "server").clients.values()) == ["device", "phone"]
    with pytest.raises(UserError, match=r"phone' exists"):
        make_keys(folder, ["phone"])


@pytest.mark.parametrize("name", ["server", "", "../x", "a b"])
def test_unusable_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="client name"):
        make_keys(tmp_path, [name])
    assert list(tmp_path.iterdir()) == []


def test_missing_and_damaged_keys_are_one_clear_line(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"own.key_secret' cannot be read .*python -m vitmalis.keys"):
        read_client_keys(tmp_path)
    (folder / "device" / "server.key").write_text('curve\n    public-key = "abc"\n')
    with pytest.raises(UserError, match="damaged: a key of 3 characters"):
        read_client_keys(folder / "device")
    (folder / "server" / "clients" / "device.key").unlink()
    with pytest.raises(UserError, match="holds no client's key"):
        read_server_keys(folder / "server")


@pytest.mark.parametrize("damage", [b"~", b"\xc3", b"#####"])
@pytest.mark.parametrize("damaged", ["server/server.key_secret", "server/clients/device.key", "device/server.key"])
def test_a_key_of_the_right_length_with_other_characters_is_damaged(folder: Path, damaged: str, damage: bytes) -> None:
    path = folder / damaged
    path.write_bytes(
        re.sub(rb'(public-key = ").{%d}' % len(damage), lambda found: found[1] + damage, path.read_bytes())
    )
    read = read_server_keys if damaged.startswith("server") else read_client_keys
    with pytest.raises(UserError, match=rf"{damaged}' is damaged: a key with characters"):
        read(folder / Path(damaged).parts[0])


def test_a_client_ends_after_its_keys_were_refused(folder: Path) -> None:
    """An open socket would let the end of its context wait without end."""
    client = ClientEndpoint(keys=dataclasses.replace(read_client_keys(folder / "device"), server=b"~" * 40))
    with pytest.raises(zmq.ZMQError):
        client.connect("tcp://127.0.0.1:5555")
    closing = threading.Thread(target=client.close, daemon=True)
    closing.start()
    closing.join(PATIENCE_S)
    assert not closing.is_alive()


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("tcp://127.0.0.1:0", True),
        ("tcp://127.3.2.1:5", True),
        ("tcp://[::1]:5", True),
        ("tcp://localhost:5", True),
        ("tcp://0.0.0.0:5", False),
        ("tcp://*:5", False),
        ("tcp://192.168.1.2:5", False),
        ("tcp://edge:5", False),
        ("tcp://eth0:5", False),
    ],
)
def test_local_addresses(address: str, local: bool) -> None:
    assert is_local(address) is local


def test_an_open_address_needs_keys_or_insecure(folder: Path) -> None:
    with pytest.raises(UserError, match="open to other machines and there are no keys"):
        ServerEndpoint("tcp://0.0.0.0:0")
    ServerEndpoint("tcp://0.0.0.0:0", insecure=True).close()
    ServerEndpoint("tcp://0.0.0.0:0", keys=read_server_keys(folder / "server")).close()


def test_the_command_makes_keys_and_says_how_to_use_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([str(tmp_path / "k"), "--client", "cam"]) == 0
    out = capsys.readouterr().out
    assert f"python -m vitmalis.server --keys {tmp_path / 'k' / 'server'}" in out
    assert f"client.keys={tmp_path / 'k' / 'cam'}" in out
    assert command.main([str(tmp_path / "k"), "--client", "cam"]) == 2
    assert "exists" in capsys.readouterr().err
