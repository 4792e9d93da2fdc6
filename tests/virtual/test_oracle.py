"""The oracle on a virtual run: it takes the best candidate of its lookahead, and no other policy uses one."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

from tests.server.blob_server import GEOMETRY, BlobDetector
from tests.virtual.test_virtual_client import FRAMES, TABLES, red_box, video  # noqa: F401
from vitmalis.client.session import ClientSession
from vitmalis.errors import UserError
from vitmalis.metrics import summarise
from vitmalis.network.traces import constant_trace
from vitmalis.offload import OffloadDecision
from vitmalis.policy import ClientState, build_policy
from vitmalis.policy.base import LookaheadResult
from vitmalis.policy.oracle import Oracle
from vitmalis.regions import Motion
from vitmalis.types import Configuration, Detections
from vitmalis.video.spec import VideoSpec
from vitmalis.virtual.client import VirtualClient
from vitmalis.virtual.durations import Durations
from vitmalis.virtual.network import connect
from vitmalis.virtual.server import VirtualServer

REFERENCES = [Detections.of([red_box(index)], [0.9], [0]) for index in range(FRAMES)]


def client(video: VideoSpec, policy: str) -> VirtualClient:  # noqa: F811
    session = ClientSession(video=video, server_address="", output_dir="", geometry=GEOMETRY, policy=policy)
    server = VirtualServer(BlobDetector(), video, "sha")
    options = {"restoration_points": [0]} if policy == "oracle" else {}
    made = build_policy(policy, **options)
    return VirtualClient(session, made, server, connect("emulated", constant_trace(4.0, 40.0)), Durations(TABLES))


def test_it_renders_at_least_as_well_as_always_sending_everything(video: VideoSpec) -> None:  # noqa: F811
    f1 = {}
    for policy in ("trackb2b", "oracle"):
        run = client(video, policy)
        run.attach_lookahead(REFERENCES)
        run.play()
        f1[policy] = summarise(run.recorder.frames(), run.recorder.offloads(), REFERENCES)["rendering_f1"]
    assert f1["oracle"] >= f1["trackb2b"] > 0.5


def test_it_takes_the_best_candidate_and_of_equals_the_fastest() -> None:
    grid = GEOMETRY.grid(320, 192)
    oracle, seen = Oracle(qualities=(75, 95), restoration_points=(0, 4)), []

    class Lookahead:
        def evaluate(self, state: ClientState, decisions: list[OffloadDecision]) -> list[LookaheadResult]:
            seen.extend(decisions)
            configurations = [decision.configuration for decision in decisions]
            return [LookaheadResult(float(c.tau_d == 1), 1.0 - c.quality / 100) for c in configurations]

    oracle.attach_lookahead(Lookahead())
    moving = np.zeros(grid.shape, np.float32)
    moving[0, 0] = 1.0
    state = ClientState(5, grid, 0.1, 0.5, motion=Motion(moving, 0.3), results=1)
    chosen = oracle.decide(state)
    assert chosen.configuration.tau_d == 1
    assert chosen.configuration.quality == 95
    assert {d.configuration for d in seen} >= {Configuration(0, 75, 0), Configuration(2, 95, 4)}


def test_it_cannot_decide_without_a_lookahead(video: VideoSpec, tmp_path: Path) -> None:  # noqa: F811
    with pytest.raises(UserError, match="only clock=virtual"):
        client(video, "oracle").play()
    other = client(video, "trackb2b")
    other.attach_lookahead(REFERENCES)  # which it ignores
    other.play()


def test_looking_ahead_leaves_the_connection_as_it_is() -> None:
    connection = connect("emulated", constant_trace(4.0, 40.0))
    ahead = copy.deepcopy(connection)
    first = ahead.upload(0.0, 100_000)
    assert ahead.upload(0.0, 100_000) > first
    assert connection.upload(0.0, 100_000) == first
