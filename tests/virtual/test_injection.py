"""Injected true values: what the policy is given is what then happens on the virtual clock."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.server.blob_server import GEOMETRY, BlobDetector
from tests.virtual.test_virtual_client import FRAMES, STAGES, red_box, video  # noqa: F401
from vitmalis.client.session import ClientSession
from vitmalis.errors import UserError
from vitmalis.estimation import load_latency_tables, save_latency_tables
from vitmalis.metrics import DEFAULT_RULE, match
from vitmalis.network.traces import Trace
from vitmalis.policy import build_policy
from vitmalis.policy.injection import KnownF1ByAge
from vitmalis.records import OffloadRecord
from vitmalis.types import Detections
from vitmalis.video.spec import VideoSpec
from vitmalis.virtual.client import VirtualClient
from vitmalis.virtual.durations import Durations
from vitmalis.virtual.network import connect
from vitmalis.virtual.server import VirtualServer

REFERENCES = [Detections.of([red_box(index)], [0.9], [0]) for index in range(FRAMES)]
UNSTEADY = Trace("unsteady", np.arange(4.0), np.array([8.0, 1.0, 6.0, 2.0]), np.full(4, 40.0))


@pytest.fixture
def play(video: VideoSpec, vitmalis_options: dict[str, str], tmp_path: Path):  # noqa: F811
    """Plays `freshness` with these injected values over a rate that jumps; returns its answered offloads."""
    tables = msgspec.structs.replace(load_latency_tables(Path(vitmalis_options["latency_tables"])), stages=STAGES)
    save_latency_tables(tables, tmp_path / "tables.json")
    options = vitmalis_options | {"latency_tables": str(tmp_path / "tables.json")}

    def played(*inject: str, references: list[Detections] | None = REFERENCES) -> list[OffloadRecord]:
        session = ClientSession(video=video, server_address="", output_dir="", geometry=GEOMETRY)
        client = VirtualClient(
            session,
            build_policy("freshness", inject=list(inject), **options),
            VirtualServer(BlobDetector(), video, "sha"),
            connect("emulated", UNSTEADY),
            Durations(tables),
        )
        if references is not None:
            client.attach_lookahead(references)
        client.play()
        answered = [offload for offload in client.recorder.offloads() if offload.status == "ok"]
        assert len(answered) >= 3
        return answered

    return played


def latency_errors_s(offloads: list[OffloadRecord]) -> list[float]:
    return [abs(offload.estimated_e2e_latency_s - offload.e2e_latency_s) for offload in offloads]


def test_the_true_size_is_what_is_sent(play) -> None:
    offloads = play("size")
    assert [offload.estimated_payload_bytes for offload in offloads] == [o.payload_bytes for o in offloads]
    estimated = play()
    assert [offload.estimated_payload_bytes for offload in estimated] != [o.payload_bytes for o in estimated]


def test_the_true_f1_is_that_of_the_result(play) -> None:
    offloads = play("f1")
    found = [match(o.detections, REFERENCES[o.frame_index], DEFAULT_RULE).f1_or_one for o in offloads]
    assert [offload.estimated_f1 for offload in offloads] == found


def test_with_true_size_and_throughput_the_latency_is_known(play) -> None:
    """What is left is the announcement, a packet of 12 ms at 1 Mbps, which a device counts as propagation."""
    assert max(latency_errors_s(play("size", "throughput"))) < 0.012
    assert max(latency_errors_s(play("size"))) > 0.03, "the mean of the last two is wrong where the rate jumps"


def test_nothing_is_injected_unless_asked_for(play) -> None:
    runs = play(), play(references=None)
    seen, unseen = (
        [(o.frame_index, o.estimated_payload_bytes, o.e2e_latency_s, o.estimated_f1) for o in run] for run in runs
    )
    assert seen == unseen


def test_true_values_need_the_frames_to_come(play) -> None:
    with pytest.raises(UserError, match=r"policy.inject=\['f1'\]: true values are known with clock=virtual only"):
        play("f1", references=None)


def test_the_known_f1_by_age_is_taken_as_it_is() -> None:
    decay = KnownF1ByAge(np.array([1.0, 0.8, 0.9]), 0.1)
    assert decay.at([0.0, 0.05, 0.2, 5.0]).tolist() == pytest.approx([1.0, 0.9, 0.9, 0.9])
    assert decay.mean(np.array([0.0]), np.array([0.1])) == pytest.approx(0.9)
    assert KnownF1ByAge(np.array([1.0, 0.0]), 0.1).at(0.1) > 0, "policies divide by it"


def test_the_true_decay_is_looked_up_to_the_end_of_the_clip(play) -> None:
    assert play("decay")[-1].frame_index > FRAMES - 10, "closer to the end than two latencies"


def test_a_policy_says_what_it_is_given(vitmalis_options: dict[str, str]) -> None:
    policy = build_policy("vitmalis", inject=["size", "f1"], **vitmalis_options)
    assert policy.stand_in.endswith("true size, inference F1, which no device knows, in place of estimates")
    with pytest.raises(UserError, match=r"policy.inject=\['sise'\]: 'sise' is unknown: choose size, f1, throughput"):
        build_policy("vitmalis", inject=["sise"], **vitmalis_options)
