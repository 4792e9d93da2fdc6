"""What fault injection counts in the records of a run, and a run whose relay is killed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.evaluation.tiny_sweep import FPS, make_clip
from vitmalis.records import OffloadRecord
from vitmalis_jobs.run.records import RunRecords
from vitmalis_jobs.validation.fault_injection import longest_gap_s, main, unexplained_offloads


def offload(number: int, status: str = "ok", reason: str = "") -> OffloadRecord:
    return OffloadRecord(
        offload_id=number,
        frame_index=number,
        start_time_s=float(number),
        e2e_latency_s=0.5,
        status=status,
        reason=reason,
    )


def test_every_offload_must_be_accounted_for() -> None:
    whole = RunRecords([], [offload(0), offload(1, "lost", "the server is gone"), offload(2)])
    assert unexplained_offloads(whole) == 0
    assert unexplained_offloads(RunRecords([], [offload(0), offload(1, "lost"), offload(2)])) == 1
    assert unexplained_offloads(RunRecords([], [offload(0), offload(3)])) == 2
    assert unexplained_offloads(RunRecords([], [])) == 0


def test_the_longest_time_without_an_answer() -> None:
    played = RunRecords([], [offload(0), offload(1, "lost", "gone"), offload(4), offload(5)])
    assert longest_gap_s(played) == 4.0
    assert longest_gap_s(RunRecords([], [offload(0)])) == 0.0


def test_an_unknown_target_is_a_users_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--target", "client"]) == 2
    assert capsys.readouterr().err == "error: --target client is unknown: choose among server, relay, sweep\n"


@pytest.mark.slow
def test_a_relay_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    make_clip(Path("clip.mp4"))
    options = ["video=file", "video.path=clip.mp4", "model.max_width=320", "model.max_height=192"]
    status = main(["--target", "relay", "--kills", "1", "--seconds", "1", *options])
    result = json.loads(capsys.readouterr().out)
    assert result == json.loads(Path("runs/fault_injection/fault_injection.json").read_text())
    assert result["relay"]["kills"] == 1
    assert result["relay"]["plays"] >= 1
    assert sum(result["relay"]["offloads"].values()) <= result["relay"]["plays"] * FPS
    assert (status, result["missed"]) == (0, [])
