"""Fuzzing: a server with a real endpoint survives it, crashes are counted, and mistakes have status 2."""

from __future__ import annotations

import random
import re
from pathlib import Path

import numpy as np
import pytest

from tests.server.blob_server import GEOMETRY
from tests.server.conftest import blob_server
from vitmalis.codec.jpeg import encode_jpeg
from vitmalis.codec.jpeg_structure import jpeg_size
from vitmalis.network.wire import coding
from vitmalis.network.wire import messages as m
from vitmalis_jobs.validation import fuzz
from vitmalis_jobs.validation.mutations import Mutator, jpeg_segments, mutated_jpeg


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
    first, second = Mutator(GEOMETRY, 5, fuzz.SIZE), Mutator(GEOMETRY, 5, fuzz.SIZE)
    messages = [first.message() for _ in range(300)]
    assert messages == [second.message() for _ in range(300)]
    broken = 0
    for frames in messages:
        try:
            coding.decode_from_client(frames)
        except m.ProtocolError:
            broken += 1
    assert 100 < broken < 300  # some remain valid and reach the JPEG decoder


def test_jpegs_are_mutated_by_their_segments() -> None:
    jpeg = encode_jpeg(np.zeros((96, 160, 3), np.uint8), 50)
    segments = jpeg_segments(jpeg)
    assert b"".join(segments) == jpeg
    assert [segment[:2].hex() for segment in segments[:2]] == ["ffd8", "ffe0"]
    assert [segment[:2].hex() for segment in segments[-2:]] == ["ffda", "ffd9"]
    draws, reasons = random.Random(1), set()
    for _ in range(500):
        try:
            jpeg_size(mutated_jpeg(jpeg, draws))
        except ValueError as error:
            reasons.add(re.sub(r"[0-9A-F]{2,}|[0-9x]+", "", str(error)))
    assert len(reasons) >= 10, "the checks of the structure are reached, each by some mutation"


def test_a_mistake_is_one_line_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzz.main(["--messages", "0"]) == 2
    assert capsys.readouterr().err == "error: --messages must be at least 1, not 0\n"
