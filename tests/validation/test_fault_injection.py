"""What fault injection counts, and real runs that it disturbs."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from mlflow.entities import Run, RunData, RunInfo, RunTag

from tests.evaluation.tiny_sweep import FPS, make_clip
from vitmalis.records import OffloadRecord
from vitmalis_jobs.run.directory import RunDirectory
from vitmalis_jobs.run.records import RunRecords
from vitmalis_jobs.validation import client_kills, evaluation_kills, full_disk, outage
from vitmalis_jobs.validation.accounting import longest_gap_s, unexplained_offloads
from vitmalis_jobs.validation.fault_injection import main

pytestmark = pytest.mark.timeout(1800)


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
    line = "error: --target camera is unknown: choose among server, relay, client, serve, evaluation, realtime_sweep, "
    assert capsys.readouterr().err == f"{line}sweep, outage, disk\n"


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


def test_a_process_that_outlives_its_command_is_an_orphan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where its parent is gone; it is ended, so that it counts once."""
    monkeypatch.setattr(evaluation_kills, "ORPHAN_S", 0.1)
    child = [sys.executable, "-c", "import time; print('here', flush=True); time.sleep(3600)"]
    parent = [sys.executable, "-c", f"import subprocess; subprocess.Popen({child!r})"]
    environment = {**os.environ, evaluation_kills.MARK: str(tmp_path)}
    with subprocess.Popen(parent, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"here\n"
    assert evaluation_kills._left(tmp_path / "another") == {"orphans": 0, "left_running": 0}
    assert evaluation_kills._left(tmp_path) == {"orphans": 1, "left_running": 0}
    assert evaluation_kills._left(tmp_path) == {"orphans": 0, "left_running": 0}


def stored_run(fingerprint: str, status: str = "FINISHED", **tags: str) -> Run:
    info = RunInfo("id", "1", "user", status, 0, 0, "active")
    all_tags = {"mlflow.parentRunId": "sweep", "fingerprint": fingerprint, **tags}
    return Run(info, RunData(tags=[RunTag(key, value) for key, value in all_tags.items()]))


def test_runs_of_a_sweep_that_are_lost_or_doubled(tmp_path: Path) -> None:
    """A run that a busy machine disturbed is made again, as documented: that does not double it."""
    command = evaluation_kills.Command((), 3, 0.0)
    whole = [stored_run("a"), stored_run("b", "KILLED"), stored_run("b"), stored_run("c", busy_machine="by others")]
    for number in range(3):
        RunDirectory(tmp_path / "results" / str(number)).write_summary("FINISHED", {})
    none = {"lost_runs": 0, "doubled_runs": 0, "summaries_missing": 0}
    assert evaluation_kills._runs_of_sweep(command, whole, tmp_path) == none
    assert evaluation_kills._runs_of_sweep(command, [*whole, stored_run("c")], tmp_path) == none
    assert evaluation_kills._runs_of_sweep(command, [*whole, stored_run("a")], tmp_path)["doubled_runs"] == 1
    assert evaluation_kills._runs_of_sweep(command, whole[:2], tmp_path)["lost_runs"] == 2
    more = evaluation_kills.Command((), 5, 0.0)
    assert evaluation_kills._runs_of_sweep(more, whole, tmp_path)["summaries_missing"] == 2


def test_runs_of_commands_that_are_lost_or_doubled() -> None:
    runs = [stored_run("a"), stored_run("a", "KILLED")]
    assert evaluation_kills._runs_of_commands(3, Counter(kills=2), runs) == {"lost_runs": 0, "doubled_runs": 0}
    assert evaluation_kills._runs_of_commands(3, Counter(kills=1), runs) == {"lost_runs": 1, "doubled_runs": 0}
    assert evaluation_kills._runs_of_commands(1, Counter(kills=0), runs) == {"lost_runs": 0, "doubled_runs": 1}


@pytest.mark.slow
@pytest.mark.parametrize("target", ["evaluation", "realtime_sweep"])
def test_an_evaluation_is_killed(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make_clip(Path("clip.mp4"))
    options = ["video=file", "video.path=clip.mp4", "model.max_width=320", "model.max_height=192", "eval.seconds=1"]
    status = main(["--target", target, "--kills", "2", *options])
    result = json.loads(capsys.readouterr().out)
    assert (status, result["missed"]) == (0, [])
    assert result[target]["ended_as"]["FINISHED"] >= evaluation_kills.COMMANDS[target].runs


@pytest.mark.slow
def test_a_server_that_was_started_by_hand_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    status = main(["--target", "serve", "--kills", "3", "--seed", "1"])
    result = json.loads(capsys.readouterr().out)
    assert (status, result["missed"]) == (0, [])
    assert result["serve"]["kills"] == 3
    assert 0 < result["serve"]["supervisor_kills"] < 3


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
