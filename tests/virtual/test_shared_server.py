"""Several virtual clients on one server, with exact durations: every time in the records can be computed by hand."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from tests.server.blob_server import GEOMETRY, BlobDetector
from tests.virtual.test_virtual_client import TABLES, video  # noqa: F401
from vitmalis.client.session import ClientSession
from vitmalis.network.traces import constant_trace
from vitmalis.policy import build_policy
from vitmalis.records import OffloadRecord
from vitmalis.server.worker import Limits
from vitmalis.types import OffloadStatus
from vitmalis.video.spec import VideoSpec
from vitmalis.virtual.client import VirtualClient, play
from vitmalis.virtual.durations import Durations
from vitmalis.virtual.events import EventQueue
from vitmalis.virtual.network import Connection, DirectConnection, connect
from vitmalis.virtual.server import VirtualServer
from vitmalis.virtual.worker import VirtualWorker


class Slow(DirectConnection):
    """Delivers what is sent up to a time together, at that time, and all else at once."""

    def __init__(self, until_s: float) -> None:
        self._until_s = until_s

    def upload(self, sent_s: float, payload_bytes: int) -> float:
        return max(sent_s, self._until_s)


def session(clip: VideoSpec, **options: object) -> ClientSession:
    plain = ClientSession(video=clip, server_address="", output_dir="", geometry=GEOMETRY)
    return msgspec.structs.replace(plain, **options)


def played(
    sessions: Sequence[ClientSession],
    connections: Sequence[Connection] = (),
    limits: Limits = Limits(),  # noqa: B008
) -> list[list[OffloadRecord]]:
    """Offloads of one `back2back` client for each session, without a network unless there are connections."""
    worker = VirtualWorker(EventQueue(), GEOMETRY, limits)
    clients = []
    for own, connection in zip(sessions, connections or [DirectConnection() for _ in sessions], strict=True):
        server, durations = VirtualServer(BlobDetector(), own.video, "sha"), Durations(TABLES)
        clients.append(VirtualClient(own, build_policy("back2back"), server, connection, durations, worker=worker))
    play(clients)
    return [client.recorder.offloads() for client in clients]


def test_two_clients_take_turns(video: VideoSpec) -> None:  # noqa: F811
    first, second = played([session(video), session(video)])
    # Both frames arrive at 20 ms and take 230 each. From then on each one waits for the rest of the other's: 230 - 20.
    assert [offload.queue_s for offload in first[:4]] == pytest.approx([0.0, 0.21, 0.21, 0.21])
    assert [offload.queue_s for offload in second[:4]] == pytest.approx([0.23, 0.21, 0.21, 0.21])
    assert [offload.e2e_latency_s for offload in first[:3]] == pytest.approx([0.25, 0.46, 0.46])
    assert [offload.e2e_latency_s for offload in second[:3]] == pytest.approx([0.48, 0.46, 0.46])
    assert [offload.frame_index for offload in first[:3]] == [0, 2, 7]
    assert {offload.status for offload in first + second} == {OffloadStatus.OK}


def test_two_in_flight_of_each_client_wait_no_longer_than_the_server_has_work(video: VideoSpec) -> None:  # noqa: F811
    """Each client sends a frame when both of theirs are done, not when its own is, after 230 ms."""
    connections = [connect("emulated", constant_trace(12.0, 40.0)) for _ in range(2)]
    for own in played([session(video, in_flight=2)] * 2, connections):
        waits_s = [offload.queue_s for offload in own if offload.queue_s is not None]
        assert max(waits_s[-2:]) < 0.24, "one frame of the other client; 0.63 without looking at the queue"


def test_a_client_whose_clip_ends_leaves_the_server_to_the_other(video: VideoSpec) -> None:  # noqa: F811
    short = msgspec.structs.replace(video, frames=3)
    first, second = played([session(short), session(video)])
    assert [offload.frame_index for offload in first] == [0, 2]  # the second result comes after the last frame
    assert [offload.queue_s for offload in second[:3]] == pytest.approx([0.23, 0.21, 0.0])


def test_the_server_refuses_what_would_wait_too_long(video: VideoSpec) -> None:  # noqa: F811
    offloads = played([session(video)] * 3, limits=Limits(queue_capacity=1))
    assert [own[0].status for own in offloads] == [OffloadStatus.OK, OffloadStatus.OK, OffloadStatus.FAILED]
    assert offloads[2][0].reason == "busy: 1 offloads of 1 clients wait already"
    assert offloads[2][1].frame_index == 1, "the next frame is tried"


def test_what_the_server_has_received_of_a_lost_offload_delays_the_others_too(video: VideoSpec) -> None:  # noqa: F811
    impatient = session(video, offload_timeout_s=0.35)
    lost, other = played([impatient, session(video)], [Slow(0.03), DirectConnection()])
    # The other's first frame is served from 20 to 250 ms, then the one that arrived at 30, until 480, though it is lost
    # at 400. Its client's next frame arrives at 420, after the other's second, at 270.
    assert [lost[0].status, other[0].status] == [OffloadStatus.LOST, OffloadStatus.OK]
    assert other[1].queue_s == pytest.approx(0.48 - 0.27)
    assert lost[1].start_time_s == pytest.approx(0.4)
