"""What every driver of the client's state machine must honour: the script of `scripted.py` gives the same records."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest

from tests.client.scripted import DECLINED, DRIVERS, FRAMES, POLICY, ScriptedPolicy, write_video
from vitmalis.client.recorder import Recorder
from vitmalis.policy import POLICIES
from vitmalis.records import FrameRecord, OffloadRecord
from vitmalis.types import Detections

MEASURED = {
    "start_time_s", "decision_s", "motion_s", "encode_s", "transfer_s", "uplink_s", "downlink_s", "network_s",
    "queue_s", "decode_s", "inference_s", "e2e_latency_s", "rtt_s", "uplink_mbps", "tracking_s", "ahead_s",
}  # fmt: skip
"""Columns of real durations: each has a value under all drivers, or under none."""


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Recorder]]:
    video = write_video(tmp_path_factory.mktemp("scripted") / "red.mp4")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(POLICIES, POLICY, ScriptedPolicy)
        yield {name: play(video) for name, play in DRIVERS.items()}


@pytest.fixture(params=sorted(DRIVERS))
def records(request: pytest.FixtureRequest, played: dict[str, Recorder]) -> Recorder:
    return played[request.param]


def test_each_offload_ends_as_scripted(records: Recorder) -> None:
    offloads = [(o.offload_id, o.frame_index, o.status, o.reason) for o in records.offloads()]
    assert offloads == [
        (0, 0, "ok", ""),
        (1, 2, "failed", "restoration point 9, this model has 0 to 4"),
        (2, 3, "lost", "no answer within 0.35 s"),
        (3, 8, "ok", ""),
        (4, 10, "lost", "the run ended first"),
    ]
    assert records.lost_offloads == 3


def test_each_frame_shows_what_is_known_by_then(records: Recorder) -> None:
    frames = records.frames()
    assert [f.frame_index for f in frames] == list(range(FRAMES))
    assert all(f.captured for f in frames)
    assert [f.source for f in frames] == ["none"] * 2 + ["tracker"] * (FRAMES - 2)
    assert [f.result_frame_index for f in frames] == [-1] * 2 + [0] * 8 + [8] * 2
    assert [f.shown_frame_index for f in frames] == [-1] * 2 + list(range(2, FRAMES)), "the tracker keeps up"
    assert [f.capture_time_s for f in frames] == pytest.approx([0.1 * index for index in range(FRAMES)])
    assert [f.render_time_s for f in frames] == pytest.approx([0.1 * (index + 1) for index in range(FRAMES)])


def test_a_declined_frame_is_on_record(records: Recorder) -> None:
    assert [f.frame_index for f in records.frames() if f.declined] == [DECLINED]


def test_shown_boxes_follow_the_object(records: Recorder) -> None:
    for frame in records.frames()[2:]:
        x = 40 + 2 * frame.frame_index
        np.testing.assert_allclose(frame.detections.boxes_xyxy, [[x, 64, x + 64, 128]], atol=4)


def test_durations_are_known_of_what_was_done(records: Recorder) -> None:
    offloads = records.offloads()
    assert [o.encode_s is not None for o in offloads] == [True] * 5
    assert [o.e2e_latency_s is not None for o in offloads] == [True, False, False, True, False]
    assert [o.motion_s is not None for o in offloads] == [False, True, True, True, True]
    assert [o.ahead_s is not None for o in offloads] == [False, True, True, True, True]
    assert [o.estimates_age_frames for o in offloads] == [None, 2, 1, 5, 2]
    assert [f.tracking_s is not None for f in records.frames()] == [False] * 2 + [True] * (FRAMES - 2)


def comparable(row: FrameRecord | OffloadRecord) -> dict[str, object]:
    """The row with lists for arrays, and of measured values only whether there is one."""
    values = {f.name: getattr(row, f.name) for f in dataclasses.fields(row)}
    detections: Detections = values.pop("detections")
    arrays = (detections.boxes_xyxy, detections.scores, detections.labels)
    return {name: value is not None if name in MEASURED else value for name, value in values.items()} | {
        "detections": [array.tolist() for array in arrays]
    }


@pytest.mark.parametrize("driver", sorted(DRIVERS))
def test_records_are_those_of_the_virtual_driver(played: dict[str, Recorder], driver: str) -> None:
    own, virtual = played[driver], played["virtual"]
    for name in ("frames", "offloads"):
        rows, expected = getattr(own, name)(), getattr(virtual, name)()
        assert [comparable(row) for row in rows] == [comparable(row) for row in expected]
