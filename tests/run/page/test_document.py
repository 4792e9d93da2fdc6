"""The document of a run page: every number is the records' own."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.run.page.small_run import FRAMES, OFFLOADS, PERSON, of_bandit, small_run, varied, with_cached, write_clip
from vitmalis.instance_masks import MASK_SIDE
from vitmalis.metrics.summary import STAGES
from vitmalis.types import Detections
from vitmalis_jobs.run.page.build import PlayedRun, run_document
from vitmalis_jobs.run.page.document import Box, Candidate, Expectation, RunDocument


@pytest.fixture
def played(tmp_path: Path) -> PlayedRun:
    write_clip(tmp_path / "clip.mp4")
    return small_run(tmp_path / "clip.mp4")


@pytest.fixture
def document(played: PlayedRun) -> RunDocument:
    return run_document(played)


def test_frames_are_those_of_the_records(document: RunDocument) -> None:
    frames = document.frames
    assert frames.capture_s == [0.0, 0.1, 0.2, 0.3]
    assert frames.captured == [True, False, True, True]
    assert frames.source == ["none", "none", "tracker", "stale"]
    assert frames.result_frame == [-1, -1, 0, 0]


def test_boxes_say_whether_they_match(document: RunDocument) -> None:
    assert document.frames.boxes[2] == [
        Box(22.0, 30.0, 62.0, 110.0, 0.8765, 0, True),
        Box(200.0, 40.0, 280.0, 90.0, 0.6, 2, False),
    ]
    assert [box.matched for boxes in document.frames.references for box in boxes] == [False, False, True]
    assert document.frames.boxes[3] == [Box(20.0, 30.0, 60.0, 110.0, 0.9, 0, False)]


def test_masks_are_stored_once_while_objects_keep_them(played: PlayedRun) -> None:
    """Outlines are polygons in thousandths of the box, a hole among them; without masks there are none."""
    assert (run_document(played).frames.masks, run_document(played).frames.outlines) == ([], [])
    half, frame = np.zeros((2, MASK_SIDE, MASK_SIDE), np.uint8)
    half[:, :14] = 255
    frame[:], frame[7:21, 7:21] = 255, 0
    shown = [
        Detections.of(*PERSON, [half]),
        Detections.empty(),
        Detections.of([[0, 0, 9, 9], [9, 9, 20, 20]], [0.9, 0.8], [0, 0], [frame, half]),
        Detections.of(*PERSON, [half]),
    ]
    frames = [dataclasses.replace(row, detections=own) for row, own in zip(FRAMES, shown, strict=True)]
    records = dataclasses.replace(played.records, frames=frames)
    stored = run_document(dataclasses.replace(played, records=records)).frames
    assert stored.masks == [[0], [], [1, 0], [0]]
    (outline,), (outer, hole) = stored.outlines
    corners = np.array(outline).reshape(-1, 2)
    np.testing.assert_allclose([corners.min(axis=0), corners.max(axis=0)], [[0, 0], [500, 1000]], atol=10)
    assert np.ptp(outer) == pytest.approx(1000, abs=10)
    assert np.ptp(hole) == pytest.approx(500, abs=30)


def test_f1_of_each_frame(document: RunDocument) -> None:
    """One found and one wrong box: 2 / 3; where there is nothing to find, there is no F1."""
    assert document.frames.f1 == [0.0, 0.0, 0.6667, None]
    assert document.metrics["rendering_f1"] == pytest.approx(2 / (2 + 2 + 2))


def test_offloads_have_their_stages_and_what_was_expected(document: RunDocument) -> None:
    first, second = document.offloads
    assert dict(zip(STAGES, first.stages_s, strict=True)) == {name: getattr(OFFLOADS[0], name) for name in STAGES}
    assert sum(filter(None, first.stages_s)) == pytest.approx(OFFLOADS[0].e2e_latency_s)
    assert first.e2e_latency_s == Expectation(None, 0.2)
    assert first.f1 == Expectation(None, 1.0)
    assert (first.low_regions, first.decision) == ([], None)
    assert (second.status, second.lost_because) == ("lost", "no answer")
    assert second.payload_bytes == Expectation(4096.0, None)
    assert second.f1 == Expectation(0.75, None)
    assert second.uplink_mbps == Expectation(5.0, None)
    assert (second.low_regions, second.low_factor) == ([1], 2)  # the CMR


def test_a_decision_has_all_candidates(document: RunDocument) -> None:
    decision = document.offloads[1].decision
    assert decision is not None
    assert decision.candidates[1] == Candidate(1, 70, 3, 4096.0, 0.25, 0.75)
    assert (decision.frontier, decision.knee, decision.chosen) == ([2, 1, 0], 1, 1)
    assert [document.legend.region_types[kind].name for kind in decision.region_types] == ["DOR", "CMR"]
    assert document.legend.reasons[decision.reason] == "at the knee"


def test_candidates_say_how_many_regions_they_have_cached(played: PlayedRun, document: RunDocument) -> None:
    assert document.offloads[1].decision.cached_regions == []  # type: ignore[union-attr]
    assert run_document(with_cached(played)).offloads[1].decision.cached_regions == [0, 1, 0]  # type: ignore[union-attr]


def test_the_reward_that_bandit_expects_is_no_f1_and_costs_before_a_result_are_unknown(
    played: PlayedRun, document: RunDocument
) -> None:
    assert not document.offloads[1].decision.expects_reward  # type: ignore[union-attr]
    second = run_document(of_bandit(played)).offloads[1]
    assert second.decision is not None
    assert second.decision.expects_reward
    assert second.decision.candidates[second.decision.chosen].f1 == 0.75
    assert second.f1 == second.payload_bytes == second.e2e_latency_s == Expectation(None, None)


def test_a_frame_that_was_made_smaller_has_only_low_regions(played: PlayedRun) -> None:
    smaller = [dataclasses.replace(OFFLOADS[0], frame_downsampling=3), *OFFLOADS[1:]]
    records = dataclasses.replace(played.records, offloads=smaller)
    first, _ = run_document(dataclasses.replace(played, records=records)).offloads
    assert (first.low_regions, first.low_factor) == ([0, 1], 3)


def test_what_else_was_sent_differently(played: PlayedRun) -> None:
    """The person is at columns 1 to 3 and rows 2 to 6 of 20 x 10 macroblocks of 16 px."""
    document = run_document(varied(played))
    first, second = document.offloads
    assert first.coarse_quality == 30
    assert [area for area in first.coarse_areas if area[1] == 16] == [[0, 16, 320, 32]]
    assert [area for area in first.coarse_areas if area[1] == 32] == [[0, 32, 16, 48], [64, 32, 320, 48]]
    assert sum((right - left) * (bottom - top) for left, top, right, bottom in first.coarse_areas) == 185 * 256
    assert (second.low_regions, second.marked_regions) == ([], {"cached": [0], "treatment Z": [1]})
    assert document.frames.declined == [False, False, True, False]


def test_a_map_of_another_shape_is_left_out(played: PlayedRun) -> None:
    odd = [dataclasses.replace(OFFLOADS[0], coarse_map=text) for text in ("ff", "no hexadecimal")]
    document = run_document(dataclasses.replace(played, records=dataclasses.replace(played.records, offloads=odd)))
    assert [offload.coarse_areas for offload in document.offloads] == [[], []]


def test_two_rounds_of_a_frame_are_two_offloads(played: PlayedRun) -> None:
    second = dataclasses.replace(OFFLOADS[0], offload_id=1, second_round_of=0)
    records = dataclasses.replace(played.records, offloads=[OFFLOADS[0], second], decisions=[])
    found = run_document(dataclasses.replace(played, records=records)).offloads
    assert [(each.frame, each.second_round_of) for each in found] == [(0, -1), (0, 0)]


@pytest.mark.parametrize(("status", "stem_from"), [("ok", [-1, -1, 0, 1]), ("lost", [-1, -1, 0, 0])])
def test_boxes_of_a_frame_that_was_sent_twice_stem_from_the_round_that_had_arrived(
    played: PlayedRun, status: str, stem_from: list[int]
) -> None:
    """The second round starts with the result of the first, at 0.2 s, and takes 0.1 s: frame 2 is shown before."""
    second = dataclasses.replace(
        OFFLOADS[0], offload_id=1, second_round_of=0, start_time_s=0.2, e2e_latency_s=0.1, status=status
    )
    records = dataclasses.replace(played.records, offloads=[OFFLOADS[0], second], decisions=[])
    assert run_document(dataclasses.replace(played, records=records)).frames.result_offload == stem_from


def test_the_capacity_repeats_with_the_trace(document: RunDocument) -> None:
    """Its period is 0.25 s and the last frame is at 0.3 s."""
    assert document.capacity is not None
    assert document.capacity.time_s == [0.0, 0.15, 0.25]
    assert document.capacity.uplink_mbps == [4.0, 6.0, 4.0]


def test_without_references_nothing_is_scored(played: PlayedRun) -> None:
    document = run_document(dataclasses.replace(played, references=None, trace=None))
    assert not document.has_references
    assert document.frames.f1 == [None] * len(FRAMES)
    assert {box.matched for boxes in document.frames.boxes for box in boxes} == {None}
    assert document.offloads[0].f1.actual is None
    assert document.capacity is None


def test_the_legend_names_what_occurs(document: RunDocument) -> None:
    assert {label: named.name for label, named in document.legend.classes.items()} == {0: "person", 2: "car"}
    assert [stage.name for stage in document.legend.stages] == [
        "encode", "uplink", "queue", "decode", "inference", "downlink",
    ]  # fmt: skip
    assert document.clip.regions == [[0, 0, 160, 160], [160, 0, 320, 160]]


def test_the_document_survives_json(document: RunDocument) -> None:
    assert msgspec.json.decode(msgspec.json.encode(document), type=RunDocument) == document


def test_a_run_without_frames_has_a_document(played: PlayedRun) -> None:
    records = dataclasses.replace(played.records, frames=[], offloads=[], decisions=[])
    document = run_document(dataclasses.replace(played, records=records))
    assert (document.frames.f1, document.offloads) == ([], [])
