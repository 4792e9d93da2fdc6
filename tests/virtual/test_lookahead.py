"""The lookahead: what it foresees is what then happens, and looking changes nothing."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.server.blob_server import BlobDetector
from tests.server.test_cached_offloads import detector  # noqa: F401
from tests.virtual.test_virtual_client import FRAMES, STAGES, TABLES, red_box, video  # noqa: F401
from vitmalis.client.session import ClientSession
from vitmalis.detector.detector import Detector
from vitmalis.network.traces import constant_trace
from vitmalis.offload import OffloadDecision, TokenCaching
from vitmalis.policy import ClientState, Policy
from vitmalis.policy.base import Lookahead
from vitmalis.types import Configuration, Detections, Frame
from vitmalis.video.spec import VideoSpec
from vitmalis.virtual.cache import InferenceCache
from vitmalis.virtual.client import VirtualClient
from vitmalis.virtual.durations import Durations
from vitmalis.virtual.network import connect
from vitmalis.virtual.server import VirtualServer

REFERENCES = [Detections.of([red_box(index)], [0.9], [0]) for index in range(FRAMES)]
TABLES_WITH_SPREAD = msgspec.structs.replace(
    TABLES, stages=msgspec.structs.replace(STAGES, spread={"encode": 0.5, "decode": 0.5, "inference": 0.5})
)
WHOLE = OffloadDecision(Configuration(0, 95, 0))


class Foreseeing(Policy):
    """Declines every other frame that it is asked about, and keeps when the results of the others are to come."""

    uses_objects = False

    def __init__(self) -> None:
        self.lookahead: Lookahead | None = None
        self.asked = 0
        self.foreseen: dict[int, float] = {}

    def attach_lookahead(self, lookahead: Lookahead) -> None:
        self.lookahead = lookahead

    def decide(self, state: ClientState) -> OffloadDecision | None:
        assert self.lookahead is not None
        self.asked += 1
        (result,) = self.lookahead.evaluate(state, [WHOLE])
        if self.asked % 2 == 0:
            return None
        self.foreseen[state.frame_index] = result.received_s
        return WHOLE


def attached(clip: VideoSpec, policy: Policy, server: VirtualServer) -> VirtualClient:
    session = ClientSession(video=clip, server_address="", output_dir="", geometry=server.geometry)
    connection = connect("emulated", constant_trace(4.0, 40.0))
    client = VirtualClient(session, policy, server, connection, Durations(TABLES_WITH_SPREAD, seed=3))
    client.attach_lookahead(REFERENCES)
    return client


def test_results_arrive_when_they_were_foreseen_to_also_after_declined_frames(video: VideoSpec) -> None:  # noqa: F811
    policy = Foreseeing()
    client = attached(video, policy, VirtualServer(BlobDetector(), video, "sha"))
    client.play()
    offloads = [offload for offload in client.recorder.offloads() if offload.status == "ok"]
    assert len(offloads) >= 3
    for offload in offloads:
        assert offload.e2e_latency_s is not None
        assert offload.start_time_s + offload.e2e_latency_s == pytest.approx(policy.foreseen[offload.frame_index])


def cached_from(base: int) -> OffloadDecision:
    mask = np.zeros((3, 4), bool)
    mask[0] = True
    return OffloadDecision(Configuration(0, 90, 2), caching=TokenCaching(base, mask))


def test_looking_ahead_leaves_the_cached_tokens_as_they_are(detector: Detector, video: VideoSpec) -> None:  # noqa: F811
    draws = np.random.default_rng(0)
    first, second = (Frame(i, 0.1 * i, draws.integers(0, 256, (150, 250, 3), np.uint8)) for i in range(2))
    server, other = (VirtualServer(detector, video, "sha") for _ in range(2))
    to_cache = OffloadDecision(Configuration(0, 90, 2), caching=TokenCaching())
    for each in (server, other):
        assert each.answer(0, first, to_cache).tokens_cached
    for number in range(1, 4):
        assert server.copy().answer(number, second, to_cache).tokens_cached
        assert server.copy().answer(0, second, to_cache).tokens_cached
    answers = [each.answer(1, second, cached_from(0)) for each in (server, other)]
    assert [answer.refusal for answer in answers] == ["", ""]
    np.testing.assert_array_equal(answers[0].detections.boxes_xyxy, answers[1].detections.boxes_xyxy)
    assert server.answer(2, second, cached_from(2)).refusal.startswith("no cached tokens of offload 2")


def test_sizes_are_those_of_each_decision(detector: Detector, video: VideoSpec, tmp_path: Path) -> None:  # noqa: F811
    """Also where a plain frame of this quality is in the inference cache, and where masks alone differ."""
    image = np.random.default_rng(0).integers(0, 256, (150, 250, 3), np.uint8)
    server = VirtualServer(detector, video, "sha", InferenceCache(tmp_path, 10**7))
    frame, plain = Frame(0, 0.0, image), OffloadDecision(Configuration(0, 90, 2))
    whole = server.answer(0, frame, plain).payload_bytes
    assert server.payload_bytes(frame, plain) == whole
    assert server.payload_bytes(frame, cached_from(0)) < 0.8 * whole


def test_decisions_that_differ_in_their_masks_alone_have_sizes_of_their_own(video: VideoSpec) -> None:  # noqa: F811
    sizes: list[np.ndarray] = []

    class Asking(Foreseeing):
        def decide(self, state: ClientState) -> OffloadDecision:
            assert self.lookahead is not None
            one, all_low = np.zeros(state.grid.shape, bool), np.ones(state.grid.shape, bool)
            one[0, 0] = True
            asked = [OffloadDecision(Configuration(2, 75, point), mask) for mask in (one, all_low) for point in (0, 1)]
            sizes.append(self.lookahead.payload_bytes(state, asked))
            return WHOLE

    attached(video, Asking(), VirtualServer(BlobDetector(), video, "sha")).play()
    for one_low, _, all_low, _ in sizes:
        assert one_low != all_low
    np.testing.assert_array_equal([own[::2] for own in sizes], [own[1::2] for own in sizes])
