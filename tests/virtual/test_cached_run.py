"""Runs of policy=cached with a real model: what is cached, and the whole frame that follows a lost offload."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.client.test_second_round import LostAfter
from tests.server.test_cached_offloads import detector  # noqa: F401
from tests.virtual.test_virtual_client import HEIGHT, TABLES, WIDTH, video  # noqa: F401
from vitmalis.client.session import ClientSession
from vitmalis.detector.detector import Detector
from vitmalis.offload import OffloadDecision, TokenCaching
from vitmalis.policy import Policy, build_policy
from vitmalis.records import DECISIONS_FILE, OffloadRecord, RecordsInfo, read_decisions, write_decisions
from vitmalis.server.token_cache import TokenCache
from vitmalis.types import Configuration, Frame
from vitmalis.video.spec import VideoSpec
from vitmalis.virtual.client import VirtualClient, play
from vitmalis.virtual.durations import Durations
from vitmalis.virtual.events import EventQueue
from vitmalis.virtual.network import Connection, DirectConnection
from vitmalis.virtual.server import VirtualServer
from vitmalis.virtual.worker import VirtualWorker

POINT = 2
_PLAIN = TABLES.inference[0]
LINES = tuple(msgspec.structs.replace(_PLAIN, restoration_point=p, slope_s=-0.005 * p) for p in range(POINT + 1))
FRAME_BYTES = (WIDTH // 16) * (HEIGHT // 16) * 40 * 4
"""Tokens of a frame: float32, 40 channels."""
FASTER_WHEN_CACHED = msgspec.structs.replace(TABLES, inference=LINES)


def played(detector: Detector, clip: VideoSpec, connection: Connection, in_flight: int) -> list[OffloadRecord]:  # noqa: F811
    played = client(detector, clip, VirtualServer(detector, clip, "sha"), connection, in_flight)
    played.play()
    return played.recorder.offloads()


def client(
    detector: Detector,  # noqa: F811
    clip: VideoSpec,
    server: VirtualServer,
    connection: Connection,
    in_flight: int = 1,
    worker: VirtualWorker | None = None,
    policy: Policy | None = None,
) -> VirtualClient:
    clip = msgspec.structs.replace(clip, frames=16)
    session = ClientSession(video=clip, server_address="", output_dir="", geometry=detector.geometry)
    session = msgspec.structs.replace(session, in_flight=in_flight, offload_timeout_s=0.6)
    policy = policy or build_policy("cached", tau_d=0, restoration_point=POINT, refresh_s=60.0)
    return VirtualClient(session, policy, server, connection, Durations(FASTER_WHEN_CACHED), worker=worker)


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


@pytest.mark.parametrize(("frames", "status"), [(2, "ok"), (1, "failed")])
def test_devices_share_the_memory_for_tokens(
    detector: Detector,  # noqa: F811
    video: VideoSpec,  # noqa: F811
    frames: int,
    status: str,
) -> None:
    """With room for the tokens of one frame, each device drops those of the other, as on a real server."""
    tokens = TokenCache(frames * FRAME_BYTES)
    worker = VirtualWorker(EventQueue(), detector.geometry)
    clients = [
        client(
            detector, video, VirtualServer(detector, video, "sha", None, tokens, name), DirectConnection(), 1, worker
        )
        for name in (b"0", b"1")
    ]
    play(clients)
    first, second, third, *_ = clients[0].recorder.offloads()
    assert (first.status, first.cached_regions) == ("ok", 0)
    assert (second.status, second.cached_regions > 0) == (status, True)
    assert second.reason == ("no cached tokens of offload 0: offload a frame without cached regions", "")[frames - 1]
    assert (third.status, third.cached_regions > 0) == ("ok", status == "ok")


def test_the_end_of_a_connection_drops_the_tokens_of_its_client_only(detector: Detector, video: VideoSpec) -> None:  # noqa: F811
    tokens = TokenCache()
    one, other = (VirtualServer(detector, video, "sha", None, tokens, name) for name in (b"0", b"1"))
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    frame = Frame(0, 0.0, image)
    some = np.zeros(detector.geometry.grid(WIDTH, HEIGHT).shape, bool)
    some[0, 0] = True
    whole, cached = (
        OffloadDecision(Configuration(0, 90, POINT), caching=caching)
        for caching in (TokenCaching(), TokenCaching(0, some))
    )
    assert [server.answer(0, frame, whole).tokens_cached for server in (one, other)] == [True, True]
    one.disconnect()
    assert one.answer(1, frame, cached).refusal.startswith("no cached tokens of offload 0")
    assert other.answer(1, frame, cached).refusal == ""
    assert one.answer(2, frame, whole).tokens_cached, "the next connection caches again"


@pytest.mark.parametrize("cached_regions", [False, True])
def test_freshness_records_what_it_weighed(
    detector: Detector,  # noqa: F811
    video: VideoSpec,  # noqa: F811
    vitmalis_options: dict,
    tmp_path: Path,
    cached_regions: bool,
) -> None:
    options = {"restoration_points": [POINT], "refresh_s": 60.0, "cached_f1_loss": 0.0, **vitmalis_options}
    policy = build_policy("freshness", cached_regions=cached_regions, **options)
    server = VirtualServer(detector, video, "sha")
    played = client(detector, video, server, DirectConnection(), policy=policy)
    played.play()
    path, decisions = tmp_path / DECISIONS_FILE, played.recorder.decisions()
    write_decisions(path, decisions, RecordsInfo(policy="freshness", clip="clip"))
    assert ("cached_regions" in pq.read_schema(path).names) == cached_regions
    _, *later = zip(played.recorder.offloads(), read_decisions(path), strict=True)
    for offload, decision in later:
        weighed = decision.explanation.cached_regions
        assert (weighed is not None) == cached_regions
        chosen = 0 if weighed is None else weighed[decision.explanation.chosen]
        assert offload.cached_regions == chosen
    assert any(offload.cached_regions for offload, _ in later) == cached_regions
