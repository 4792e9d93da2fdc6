"""What fault injection counts in the records of a run, and a run whose relay is killed."""

from __future__ import annotations

import errno
import io
import json
import subprocess
from pathlib import Path

import pytest

from tests.evaluation.tiny_sweep import FPS, make_clip
from vitmalis.records import OffloadRecord
from vitmalis_jobs.run.records import RunRecords
from vitmalis_jobs.validation import client_kills, full_disk, outage
from vitmalis_jobs.validation.accounting import longest_gap_s, unexplained_offloads
from vitmalis_jobs.validation.fault_injection import main


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


def test_results_resume_after_the_outage() -> None:
    # The trace's clock starts with the first offload, at 2 s; the outage lasts from 12 to 42 s on the run's clock.
    before, during = offload(2), offload(20, "lost", "silent")
    after = OffloadRecord(offload_id=3, frame_index=3, start_time_s=40.0, e2e_latency_s=5.5)
    assert outage.resumed_after_s([before, during, after]) == 3.5
    assert outage.resumed_after_s([before, during]) == float("inf")


def test_a_disk_is_filled_to_the_last_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = [200_000]

    class Disk(io.RawIOBase):
        def write(self, data: bytes) -> int:  # type: ignore[override]
            written = min(len(data), free[0])
            free[0] -= written
            if not written:
                raise OSError(errno.ENOSPC, "No space left on device")
            return written

    monkeypatch.setattr(Path, "open", lambda *_, **__: Disk())
    full_disk.fill(tmp_path / "filler")
    assert free == [0]


def test_an_unknown_target_is_a_users_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--target", "camera"]) == 2
    assert (
        capsys.readouterr().err
        == "error: --target camera is unknown: choose among server, relay, client, sweep, outage, disk\n"
    )


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


@pytest.mark.slow
def test_a_disk_fills_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    if subprocess.run(["unshare", "--user", "--map-root-user", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("users may not mount a disk of their own here")
    monkeypatch.chdir(tmp_path)
    status = main(["--target", "disk", "video=market1906", "eval.seconds=10"])
    result = json.loads(capsys.readouterr().out)
    assert (status, result["missed"]) == (0, [])
    assert "free" in result["disk"]["error"]


@pytest.mark.slow
def test_a_client_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(client_kills, "LATEST_KILL_S", 0.5)
    make_clip(Path("clip.mp4"))
    options = ["video=file", "video.path=clip.mp4", "model.max_width=320", "model.max_height=192"]
    status = main(["--target", "client", "--kills", "1", "--seconds", "1", *options])
    result = json.loads(capsys.readouterr().out)
    assert result["client"]["longest_lost_s"] <= 2.0
    assert (result["client"]["orphans"], result["client"]["unexplained_offloads"]) == (0, 0)
    assert (status, result["missed"]) == (0, [])
