"""Link and client as processes, in front of a real server without a model."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import av
import cv2
import msgspec
import numpy as np
import psutil
import pytest

from tests.server.blob_server import GEOMETRY
from tests.server.conftest import blob_server
from vitmalis.client.session import ClientSession
from vitmalis.errors import UserError
from vitmalis.network.traces import constant_trace
from vitmalis.records import FRAMES_FILE, OFFLOADS_FILE, read_frames, read_info, read_offloads
from vitmalis.video.spec import VideoSpec
from vitmalis_jobs.run import processes
from vitmalis_jobs.run.processes import ClientFailed
from vitmalis_jobs.run.records import RunRecords, read_records
from vitmalis_jobs.run.supervisor import SupervisedProcess

FPS, FRAMES = 20.0, 60
LINK = {"name": "emulated", "transport": "ideal", "queue_bytes": 262144}


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> VideoSpec:
    path = tmp_path_factory.mktemp("clip") / "red.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=int(FPS))
        stream.width, stream.height, stream.pix_fmt = 320, 192, "yuv420p"
        for i in range(FRAMES):
            image = np.full((192, 320, 3), 90, np.uint8)
            cv2.rectangle(image, (40 + 2 * i, 64), (104 + 2 * i, 128), (235, 20, 20), -1)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(stream.encode())
    return VideoSpec("red", str(path), FPS, 0, FRAMES, 320, 192)


def session_at(address: str, video: VideoSpec, folder: Path) -> ClientSession:
    return ClientSession(video, address, str(folder), GEOMETRY, policy="trackb2b", drain_s=0.5)


def kills(*killed: SupervisedProcess) -> processes.PlayProgress:
    """Progress that kills processes once, as soon as an offload has been answered."""

    def progress(done: int, total: int, offloads: int, lost: int) -> None:
        answered = offloads - lost > 1  # the last one may be under way
        if answered and not any(process.exits for process in killed):
            for process in killed:
                os.kill(process.pid, signal.SIGKILL)
                until(lambda process=process: bool(process.exits))  # type: ignore[misc]

    return progress


def until(reached: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 180
    while not reached():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def assert_all_rendered(played: RunRecords) -> None:
    assert [frame.frame_index for frame in played.frames] == list(range(FRAMES))
    assert [offload.offload_id for offload in played.offloads] == list(range(len(played.offloads)))
    assert played.offloads[0].status == "ok"


def test_a_server_that_exits_costs_offloads_and_not_the_run(video: VideoSpec, tmp_path: Path) -> None:
    with (
        SupervisedProcess(lambda _: blob_server(tmp_path), restart=False) as server,
        processes.relay(LINK, server.facts["ready"], constant_trace(8.0, 20.0), tmp_path) as link,
    ):
        assert server.exits == []
        session = session_at(link.address, video, tmp_path)
        played = processes.play(session, 1, tmp_path, kills(server))
        assert server.exits == ["killed by SIGKILL"]
    assert_all_rendered(played)
    assert played.frames[-1].source == "tracker"  # the last result is carried on


def test_server_and_relay_that_exit_are_started_again_where_they_were(video: VideoSpec, tmp_path: Path) -> None:
    with (
        SupervisedProcess(lambda facts: blob_server(tmp_path, facts.get("ready", "tcp://127.0.0.1:0"))) as server,
        processes.relay(LINK, server.facts["ready"], constant_trace(8.0, 20.0), tmp_path) as link,
    ):
        assert link.process is not None
        session = session_at(link.address, video, tmp_path)
        played = processes.play(session, 1, tmp_path, kills(server, link.process))
        assert (server.exits, link.exits) == (["killed by SIGKILL"], ["killed by SIGKILL"])
        assert_all_rendered(played)
        # The next client waits until both are there again, at the same address.
        played = processes.play(session, 1, tmp_path, lambda *_: None)
        first, *later = re.findall(r"trace clock 0 is (\S+)", (tmp_path / "logs" / "relay.log").read_text())
        assert link.process.facts["trace_origin_s"] == pytest.approx(float(first), abs=1e-6)
        assert later == []  # the second relay goes on with the clock of the first
    assert_all_rendered(played)


def test_without_emulation_the_client_is_sent_to_the_server(tmp_path: Path) -> None:
    with processes.relay({"name": "none"}, "tcp://127.0.0.1:5", constant_trace(8.0, 20.0), tmp_path) as link:
        assert link.address == "tcp://127.0.0.1:5"


def test_a_client_that_cannot_start_says_why(video: VideoSpec, tmp_path: Path) -> None:
    session = ClientSession(video, "tcp://127.0.0.1:9", str(tmp_path), GEOMETRY, connect_timeout_s=0.2)
    with pytest.raises(UserError, match=r"the client did not start .*127\.0\.0\.1:9 did not answer"):
        processes.play(session, 1, tmp_path, lambda *_: None)


def test_a_killed_client_is_one_line_and_leaves_its_records(video: VideoSpec, tmp_path: Path) -> None:
    slow = msgspec.structs.replace(video, fps=2.5)  # 24 s: a busy machine takes longer to begin saving
    saved: list[int] = []

    def progress(*_: int) -> None:
        with suppress(UserError):  # a journal that has just been created
            saved.append(
                min(len(read_frames(tmp_path / FRAMES_FILE)), 10 * len(read_offloads(tmp_path / OFFLOADS_FILE)))
            )
        if saved and saved[-1] >= 10:
            for child in psutil.Process().children():
                with suppress(psutil.NoSuchProcess):  # progress of a client that is dead already
                    if "vitmalis.client" in child.cmdline():
                        child.kill()

    with SupervisedProcess(lambda _: blob_server(tmp_path), restart=False) as server:
        session = session_at(server.facts["ready"], slow, tmp_path)
        with pytest.raises(ClientFailed, match="the client was killed by SIGKILL; its records end early") as error:
            processes.play(session, 1, tmp_path, progress)
    assert isinstance(error.value, UserError)
    records = read_records(tmp_path)
    assert [frame.frame_index for frame in records.frames] == list(range(len(records.frames)))
    assert 10 <= len(records.frames) < FRAMES
    assert records.offloads[0].status == "ok"
    assert read_info(tmp_path / FRAMES_FILE).ended == "failed"
