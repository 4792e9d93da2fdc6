"""Fuzzing: a server with a real endpoint survives it, crashes are counted, and mistakes have status 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.server.blob_server import GEOMETRY
from tests.server.conftest import blob_server
from vitmalis.network.wire import messages as m
from vitmalis_jobs.validation import fuzz


def test_a_server_survives_and_serves_on(tmp_path: Path) -> None:
    with blob_server(tmp_path) as server:
        result = fuzz.fuzz(server, count=1000, seed=3, every=500)
        assert server.returncode() is None
    assert result["crashes"] == 0
    assert result["honest_s"] < fuzz.TIMEOUT_S
    summary = (tmp_path / "server.log").read_text().splitlines()[-1]
    assert "malformed" in summary
    assert "refused" in summary


def test_a_server_that_exits_is_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with blob_server(tmp_path) as server:
        monkeypatch.setattr(fuzz.Attacker, "batch", lambda self, count: server.kill())
        assert fuzz.fuzz(server, count=100, seed=3)["crashes"] == 1


def test_mutations_are_the_same_for_a_seed_and_mostly_damage() -> None:
    first, second = fuzz.Mutator(GEOMETRY, 5), fuzz.Mutator(GEOMETRY, 5)
    messages = [first.message() for _ in range(300)]
    assert messages == [second.message() for _ in range(300)]
    broken = 0
    for frames in messages:
        try:
            m.decode_from_client(frames)
        except m.ProtocolError:
            broken += 1
    assert 100 < broken < 300  # some remain valid and reach the JPEG decoder


def test_a_mistake_is_one_line_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzz.main(["--messages", "0"]) == 2
    assert capsys.readouterr().err == "error: --messages must be at least 1, not 0\n"
