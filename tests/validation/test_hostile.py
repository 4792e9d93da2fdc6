"""The hostile job at a small scale against a server with a real endpoint, and what it computes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.server.conftest import blob_server
from vitmalis_jobs.validation import hostile

FEW = ["--messages", "200", "--idle", "50", "--hellos", "20", "--floods", "2"]


def test_a_server_survives_every_kind_and_its_client_notices_nothing(tmp_path: Path) -> None:
    with blob_server(tmp_path) as server:
        result = hostile.attack(server, hostile.command_line().parse_args(FEW), settle_s=0.0)
        assert server.returncode() is None
    assert result["crashes"] == result["disconnected"] == result["unanswered"] == 0
    assert result["answered"] > hostile.WARM_UP_OFFLOADS
    summary = (tmp_path / "server.log").read_text().splitlines()[-1]
    for kind in ("malformed", "oversized"):
        assert kind in summary


def test_a_server_that_exits_is_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with blob_server(tmp_path) as server:
        monkeypatch.setattr(hostile, "claim_ids", lambda _: server.kill())
        assert hostile.attack(server, hostile.command_line().parse_args(FEW), settle_s=0.0)["crashes"] == 1


def test_waiting_is_counted_in_inferences() -> None:
    served = hostile.Served(answer_s=[0.5, 1.3, 0.4], inference_s=[0.4, 0.5, 0.35])
    assert served.waited_inferences() == pytest.approx((1.3 - 0.5) / 0.5)
