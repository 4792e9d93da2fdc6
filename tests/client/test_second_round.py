"""Offloads of two rounds: event by event, on the virtual clock by hand, and with a real server over a real socket."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.client.scripted import session, write_video
from tests.client.test_machine import captured, machine_with, of_type, result
from tests.server.blob_server import BlobDetector
from tests.server.conftest import PATIENCE_S, served
from tests.virtual.test_virtual_client import TABLES
from vitmalis.client.events import EndOffload, LinkChanged, StartOffload
from vitmalis.client.realtime import RealtimeClient
from vitmalis.client.recorder import Recorder
from vitmalis.client.session import ClientSession
from vitmalis.offload import OffloadDecision
from vitmalis.policy import ClientState, Policy, build_policy
from vitmalis.policy.dds import DDS
from vitmalis.records import OFFLOADS_FILE, RecordsInfo, read_offloads, write_offloads
from vitmalis.types import BoolMask, Configuration, Detections, OffloadStatus
from vitmalis.video.spec import VideoSpec
from vitmalis.virtual.client import VirtualClient
from vitmalis.virtual.durations import Durations
from vitmalis.virtual.network import Connection, DirectConnection
from vitmalis.virtual.server import VirtualServer

SURE, UNSURE = [10, 10, 60, 60], [200, 20, 240, 60]
"""A box that is found at low resolution alone, and one that is found at full resolution only."""
ASKED = [[0, 1]]
"""The region of the uncertain box, of 2 x 2 regions of 160 pixels."""
OPTIONS = {"restoration_point": 0, "low_quality": 50, "low_score": 0.2}


class UnsureDetector(BlobDetector):
    """Finds one box for certain and one with a score of 0.3 at low resolution, and the other way with a full region."""

    def detect_patches(
        self, patches: np.ndarray, image_size: tuple[int, int], downsample_mask: BoolMask, restoration_point: int
    ) -> Detections:
        if downsample_mask.all():
            return Detections.of([SURE, UNSURE], [0.9, 0.3], [0, 0])
        assert np.argwhere(~downsample_mask).tolist() == ASKED
        return Detections.of([UNSURE], [0.8], [0])


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> VideoSpec:
    return write_video(tmp_path_factory.mktemp("video") / "red.mp4")


def two_rounds(video: VideoSpec, address: str = "", **changes: object) -> ClientSession:
    own = {"policy": "dds", "policy_options": OPTIONS, "offload_timeout_s": 5.0}
    return msgspec.structs.replace(session(video, address), **(own | changes))


class LostAfter(DirectConnection):
    """Loses what is sent between two times, seconds."""

    def __init__(self, start_s: float, end_s: float) -> None:
        self._start_s, self._end_s = start_s, end_s

    def upload(self, sent_s: float, payload_bytes: int) -> float:
        return sent_s + (1000.0 if self._start_s < sent_s < self._end_s else 0.0)


def play_virtual(
    video: VideoSpec, policy: Policy | None = None, connection: Connection | None = None, **changes: object
) -> Recorder:
    client = VirtualClient(
        two_rounds(video, **changes),
        policy or build_policy("dds", **OPTIONS),
        VirtualServer(UnsureDetector(), video, "sha"),
        connection or DirectConnection(),
        Durations(TABLES),
    )
    client.play()
    return client.recorder


def play_realtime(video: VideoSpec) -> Recorder:
    with served(UnsureDetector()) as address:
        client = RealtimeClient(two_rounds(video, address, drain_s=PATIENCE_S))
        client.play()
    return client.recorder


def test_both_rounds_by_hand(video: VideoSpec) -> None:
    records = play_virtual(video)
    first, second, third = records.offloads()[:3]
    # A round takes 20 + 30 + 200 ms, after 1 ms for the tracker's copy of frame 0.
    assert (first.frame_index, first.second_round_of, first.asked_regions, first.downsampled_regions) == (0, -1, 1, 4)
    assert (second.frame_index, second.second_round_of, second.asked_regions, second.downsampled_regions) == (
        0,
        0,
        0,
        3,
    )
    assert [offload.start_time_s for offload in (first, second, third)] == pytest.approx([0.001, 0.251, 0.501])
    assert [offload.e2e_latency_s for offload in (first, second)] == pytest.approx([0.25, 0.25])
    assert (first.quality, second.quality, second.status, second.reason) == (50, 95, "ok", "")
    assert third.second_round_of == -1
    frames = records.frames()
    assert [len(frame.detections) for frame in frames[:7]] == [0, 0, 1, 1, 1, 2, 2]
    assert {frame.result_frame_index for frame in frames[2:7]} == {0}
    np.testing.assert_allclose(frames[5].detections.boxes_xyxy, [UNSURE, SURE], atol=2)


def test_decisions_know_the_boxes_of_both_rounds(video: VideoSpec) -> None:
    """The next frame is decided on when the second round has come, however far the tracker is with the first."""
    known: list[int] = []

    class Spy(DDS):
        uses_objects = True

        def decide(self, state: ClientState) -> OffloadDecision:
            known.append(len(state.tracked))
            return super().decide(state)

    play_virtual(video, Spy(**OPTIONS))
    assert known[0] == 0
    assert set(known[1:]) == {2}


def test_a_lost_second_round_leaves_the_boxes_of_the_first(video: VideoSpec) -> None:
    records = play_virtual(video, connection=LostAfter(0.26, 0.3), offload_timeout_s=0.35)
    first, second, third = records.offloads()[:3]
    assert (first.status, second.status, second.reason) == ("ok", "lost", "no answer within 0.35 s")
    assert (second.second_round_of, third.second_round_of) == (0, -1)
    assert [len(frame.detections) for frame in records.frames()[2:8]] == [1] * 6


def test_a_refused_second_round_leaves_the_boxes_of_the_first(video: VideoSpec) -> None:
    class TooLate(DDS):
        def decide(self, state: ClientState) -> OffloadDecision:
            decision = super().decide(state)
            assert decision.feedback is not None
            feedback = replace(decision.feedback, configuration=Configuration(2, 95, 9))
            return replace(decision, feedback=feedback)

    records = play_virtual(video, TooLate(**OPTIONS))
    first, second = records.offloads()[:2]
    assert (first.status, second.status) == ("ok", "failed")
    assert "restoration point 9, this model has 0 to 4" in second.reason
    assert [len(frame.detections) for frame in records.frames()[2:5]] == [1] * 3


def test_nothing_is_sent_again_once_a_later_frame_is_in_flight() -> None:
    machine = machine_with(build_policy("dds"), in_flight=2)
    machine.handle(LinkChanged(up=True), 0.0)
    machine.handle(captured(0), 0.0)
    machine.handle(result(0, 0), 0.05)  # encoding and upload took 0.11 s, decoding and inference 0.21 s
    machine.handle(captured(1), 0.1)
    machine.handle(captured(4), 0.4)
    assert machine.outstanding == [1, 2]
    asked = np.ones((1, 1), bool)
    end, *others = machine.handle(replace(result(1, 1), asked=asked), 0.45)
    assert end == EndOffload(1, OffloadStatus.OK, "no second round: a later frame is in flight")
    assert not of_type(others, StartOffload)
    end, second, *_ = machine.handle(replace(result(2, 4), asked=asked), 0.5)
    assert end == EndOffload(2, OffloadStatus.OK)
    assert (second.offload_id, second.frame.index, second.second_round_of) == (3, 4, 2)


def test_the_end_of_the_run_needs_no_second_round(video: VideoSpec) -> None:
    last = play_virtual(video, drain_s=5.0).offloads()[-1]
    assert (last.status, last.second_round_of, last.reason) == ("ok", -1, "no second round: the run ends")


def test_two_runs_are_equal_to_the_byte(video: VideoSpec, tmp_path: Path) -> None:
    files = []
    for name in ("one", "other"):
        path = tmp_path / name / OFFLOADS_FILE
        path.parent.mkdir()
        write_offloads(path, play_virtual(video).offloads(), RecordsInfo("dds", "red"))
        files.append(path.read_bytes())
    assert files[0] == files[1]
    assert [offload.second_round_of for offload in read_offloads(path)][:3] == [-1, 0, -1]


def test_a_real_server_asks_back_over_a_real_socket(video: VideoSpec) -> None:
    records = play_realtime(video)
    offloads = records.offloads()
    rounds = [offload for offload in offloads if offload.second_round_of >= 0]
    assert rounds
    for second in rounds:
        first = offloads[second.second_round_of]
        assert (first.frame_index, first.asked_regions) == (second.frame_index, 1)
        assert first.start_time_s + first.e2e_latency_s <= second.start_time_s
        assert (second.status, second.downsampled_regions, second.decision_s) == ("ok", 3, 0.0)
        assert second.payload_bytes > first.payload_bytes
    assert max(len(frame.detections) for frame in records.frames()) == 2
