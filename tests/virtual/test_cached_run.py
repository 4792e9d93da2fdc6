"""Runs of policy=cached with a real model: what is cached, and the whole frame that follows a lost offload."""

from __future__ import annotations

import msgspec

from tests.client.test_second_round import LostAfter
from tests.server.test_cached_offloads import detector  # noqa: F401
from tests.virtual.test_virtual_client import TABLES, video  # noqa: F401
from vitmalis.client.session import ClientSession
from vitmalis.detector.detector import Detector
from vitmalis.policy import build_policy
from vitmalis.records import OffloadRecord
from vitmalis.video.spec import VideoSpec
from vitmalis.virtual.client import VirtualClient
from vitmalis.virtual.durations import Durations
from vitmalis.virtual.network import Connection, DirectConnection
from vitmalis.virtual.server import VirtualServer

POINT = 2
_PLAIN = TABLES.inference[0]
LINES = tuple(msgspec.structs.replace(_PLAIN, restoration_point=p, slope_s=-0.005 * p) for p in range(POINT + 1))
FASTER_WHEN_CACHED = msgspec.structs.replace(TABLES, inference=LINES)


def played(detector: Detector, clip: VideoSpec, connection: Connection, in_flight: int) -> list[OffloadRecord]:  # noqa: F811
    clip = msgspec.structs.replace(clip, frames=16)
    session = ClientSession(video=clip, server_address="", output_dir="", geometry=detector.geometry)
    session = msgspec.structs.replace(session, in_flight=in_flight, offload_timeout_s=0.6)
    policy = build_policy("cached", tau_d=0, restoration_point=POINT, refresh_s=60.0)
    server = VirtualServer(detector, clip, "sha")
    client = VirtualClient(session, policy, server, connection, Durations(FASTER_WHEN_CACHED))
    client.play()
    return client.recorder.offloads()


def test_what_did_not_move_is_cached_after_the_first_result(detector: Detector, video: VideoSpec) -> None:  # noqa: F811
    for in_flight in (1, 2):
        first, *others = played(detector, video, DirectConnection(), in_flight)
        assert (first.region_map, first.cached_regions) == ("", 0)
        assert {offload.status for offload in (first, *others)} == {"ok"}
        for offload in others:
            assert 0 < offload.cached_regions < offload.regions
            assert offload.region_map.count("C") == offload.cached_regions
            assert offload.payload_bytes is not None
            assert first.payload_bytes is not None
            assert offload.payload_bytes < first.payload_bytes
            assert offload.inference_s is not None
            assert offload.inference_s < 0.2


def test_after_a_lost_offload_the_frame_is_sent_whole(detector: Detector, video: VideoSpec) -> None:  # noqa: F811
    offloads = played(detector, video, LostAfter(0.3, 0.7), in_flight=1)
    lost = next(number for number, offload in enumerate(offloads) if offload.status == "lost")
    assert offloads[lost].cached_regions > 0
    after, later = offloads[lost + 1 : lost + 3]
    assert (after.status, after.cached_regions) == ("ok", 0)
    assert (later.status, later.cached_regions > 0) == ("ok", True)
