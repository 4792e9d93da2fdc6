"""What peers can have logged: one line, of limited length and number."""

from __future__ import annotations

import logging

import pytest

from tests.server.blob_server import BlobDetector
from tests.server.conftest import RawClient
from vitmalis.network.wire import coding
from vitmalis.network.wire import messages as m
from vitmalis.network.wire.peer_log import LogLimit, quoted
from vitmalis.server.endpoint import ServerEndpoint
from vitmalis.server.service import Service


def test_peers_write_no_lines_and_no_control_characters() -> None:
    forged = "x\nWARNING the key of client 'admin' was accepted\r\x1b[2K\u2028\u202e"
    assert quoted(forged) == "\"x\\nWARNING the key of client 'admin' was accepted\\r\\x1b[2K\\u2028\\u202e\""
    assert quoted("y" * 60_000) == repr("y" * 300) + " and 59700 characters more"


def test_lines_of_a_kind_are_limited_and_come_back() -> None:
    now_s = [1000.0]
    limit = LogLimit(lambda: now_s[0])
    assert [limit.allows("refused") for _ in range(22)] == [True] * 20 + [False] * 2
    assert limit.allows("busy")
    now_s[0] += 59.0
    assert not limit.allows("refused")
    now_s[0] += 1.0
    assert [limit.allows("refused") for _ in range(2)] == [True, False]
    now_s[0] += 86_400.0
    assert sum(limit.allows("refused") for _ in range(100)) == 20


def test_whatever_a_client_sends_is_one_short_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    evil = "\n2026 vitmalis INFO the key of client 'admin' was accepted\x1b[31m"
    with ServerEndpoint("tcp://127.0.0.1:0") as endpoint, RawClient(endpoint.address) as raw:
        service = Service(endpoint, BlobDetector())
        header = coding.encode(m.Hello(evil))[0]
        unknown = header.replace(b"client_id", b"client\nid")
        long = header.replace(b"\xa9client_id", b"\xda\xea\x60" + b"z" * 60_000)
        for frames in ([header], [unknown], [long]):
            raw.send(*frames)
        handled = 0
        while handled < 3:
            for event in endpoint.poll(1.0):
                service._on_event(event)
                handled += 1
        service._memory.close()
    assert len(caplog.records) >= 3
    for record in caplog.records:
        line = record.getMessage()
        assert line.isprintable()
        assert len(line) < 500
