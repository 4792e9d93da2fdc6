"""The health check of a server: a connection that is greeted."""

from __future__ import annotations

import socket

import pytest

from tests.server.conftest import free_address, serving
from vitmalis.network.addresses import split_target
from vitmalis.server import health


def test_a_serving_server_is_healthy() -> None:
    with serving() as (_, endpoint):
        assert health.is_healthy(endpoint.address, 30)
        assert health.main([endpoint.address, "--timeout", "30"]) == 0


def test_no_server_is_not_healthy(capsys: pytest.CaptureFixture[str]) -> None:
    address = free_address()
    assert health.main([address]) == 1
    assert address in capsys.readouterr().out


def test_a_socket_that_no_server_accepts_from_is_not_healthy() -> None:
    """As that of a supervisor whose server has ended: the system takes connections, but no one answers."""
    address = free_address()
    with socket.create_server(split_target(address)):
        assert not health.is_healthy(address, 0.2)


def test_an_address_without_a_port_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert health.main(["edge"]) == 2
    assert "'edge'" in capsys.readouterr().err
