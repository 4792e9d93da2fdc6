"""The client's logic, event by event, without threads, sockets or clocks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from vitmalis.client.events import (
    AnalyseMotion,
    BoxesLocated,
    CatchUp,
    DeclineOffload,
    EndOffload,
    EstimateAhead,
    EstimatedAhead,
    FrameCaptured,
    LinkChanged,
    Locate,
    MotionAnalysed,
    OffloadRefused,
    Reconnect,
    Render,
    RenderDue,
    ResultArrived,
    StartOffload,
    Track,
    TrackingDone,
)
from vitmalis.client.machine import ClientMachine
from vitmalis.instance_masks import MASK_SIDE, Masks
from vitmalis.offload import OffloadDecision, OffloadOutcome, TokenCaching
from vitmalis.policy import ClientState, Policy, build_policy
from vitmalis.policy.back2back import Back2Back
from vitmalis.policy.base import CachedFrame
from vitmalis.policy.trackb2b import TrackB2B
from vitmalis.regions import ModelGeometry, Motion
from vitmalis.types import BoxSource, Configuration, Detections, Frame, OffloadStatus

INTERVAL_S = 0.1
GEOMETRY = ModelGeometry(window=5, factor=2, patch_px=16, restoration_points=4)
GRAY = np.zeros((4, 8), np.uint8)


def captured(index: int, tracking: bool = True) -> FrameCaptured:
    image = np.zeros((8, 16, 3), np.uint8)
    return FrameCaptured(Frame(index, index * INTERVAL_S, image), GRAY if tracking else None)


def boxes(x: float) -> Detections:
    return Detections.of([[x, 0, x + 4, 4]], [0.9], [2])


def result(offload_id: int, frame_index: int, x: float = 0.0) -> ResultArrived:
    decision = OffloadDecision(Configuration())
    outcome = OffloadOutcome(frame_index, decision, 1000, 0.01, 0.01, 0.2, 0.1, 0.04, 0.4)
    return ResultArrived(offload_id, boxes(x), outcome)


def indices(track: Track | CatchUp | Locate) -> list[int]:
    return [index for index, _ in track.frames]


def of_type(actions: list, kind: type) -> list:
    return [action for action in actions if isinstance(action, kind)]


def machine_with(
    policy: Policy, offload_timeout_s: float = 5.0, history_frames: int = 96, **options: Any
) -> ClientMachine:
    return ClientMachine(
        policy,
        frame_interval_s=INTERVAL_S,
        geometry=GEOMETRY,
        score_threshold=0.5,
        offload_timeout_s=offload_timeout_s,
        history_frames=history_frames,
        **options,
    )


@pytest.fixture
def tracking() -> ClientMachine:
    machine = machine_with(build_policy("trackb2b"))
    machine.handle(LinkChanged(up=True), 0.0)
    return machine


@pytest.fixture
def plain() -> ClientMachine:
    machine = machine_with(build_policy("back2back"))
    machine.handle(LinkChanged(up=True), 0.0)
    return machine


def test_first_frame_is_offloaded_and_the_next_waits_for_the_result(plain: ClientMachine) -> None:
    (start,) = plain.handle(captured(0, tracking=False), 0.0)
    assert isinstance(start, StartOffload)
    assert (start.offload_id, start.frame.index) == (0, 0)
    assert plain.handle(captured(1, tracking=False), 0.1) == []
    assert plain.outstanding == [0]


class EstimatesAhead(Back2Back):
    """A policy whose states are kept."""

    estimates_ahead = True

    def __init__(self) -> None:
        super().__init__()
        self.states: list[ClientState] = []

    def decide(self, state: ClientState) -> OffloadDecision:
        self.states.append(state)
        return super().decide(state)


def test_a_policy_estimates_ahead_from_the_state_it_decided_on_and_later_decisions_know_it() -> None:
    policy = EstimatesAhead()
    machine = machine_with(policy)
    machine.handle(LinkChanged(up=True), 0.0)
    _, ahead = machine.handle(captured(0, tracking=False), 0.0)
    assert ahead == EstimateAhead(policy.states[0])
    assert machine.handle(captured(1, tracking=False), 0.1) == [], "once for each offload"
    assert machine.handle(EstimatedAhead("first"), 0.11) == []
    machine.handle(result(0, 0), 0.15)
    machine.handle(captured(2, tracking=False), 0.2)
    machine.handle(result(1, 1), 0.25)
    assert [(s.frame_index, s.ahead) for s in policy.states] == [(0, None), (1, "first"), (2, "first")]
    machine.handle(EstimatedAhead("second"), 0.26)
    machine.handle(captured(3, tracking=False), 0.3)
    machine.handle(result(2, 2), 0.35)
    assert policy.states[-1].ahead == "second"


def test_an_estimator_slower_than_the_offloads_skips_all_but_the_latest_decision() -> None:
    policy = EstimatesAhead()
    machine = machine_with(policy)
    machine.handle(LinkChanged(up=True), 0.0)
    _, first = machine.handle(captured(0, tracking=False), 0.0)
    assert first == EstimateAhead(policy.states[0])
    for index in (1, 2):
        machine.handle(captured(index, tracking=False), index * INTERVAL_S)
        *_, start = machine.handle(result(index - 1, index - 1), index * INTERVAL_S)
        assert isinstance(start, StartOffload), "no job is added to those that wait"
    assert machine.handle(EstimatedAhead("of frame 0"), 0.25) == [EstimateAhead(policy.states[2])]
    assert machine.handle(EstimatedAhead("of frame 2"), 0.5) == []


class UsesObjects(EstimatesAhead):
    """A policy that decides from objects, and whose states are kept."""

    uses_objects = uses_tracker = True


def test_a_second_offload_during_a_catch_up_waits_for_the_objects_to_be_located() -> None:
    policy = UsesObjects()
    machine = machine_with(policy, in_flight=2)
    machine.handle(LinkChanged(up=True), 0.0)
    for index in range(3):
        machine.handle(captured(index), index * INTERVAL_S)
    machine.handle(result(0, 0, x=0.0), 0.25)
    assert of_type(machine.handle(BoxesLocated(2, boxes(2.0)), 0.26), CatchUp), "the offload of frame 2 is in flight"
    for index in range(3, 7):  # the second one might follow 0.24 s after it
        assert machine.handle(captured(index), index * INTERVAL_S) == []
    (locate,) = machine.handle(TrackingDone(2, boxes(2.0), 1.0), 0.65)
    assert isinstance(locate, Locate)
    assert indices(locate) == [2, 3, 4, 5, 6]
    machine.handle(BoxesLocated(6, boxes(6.0)), 0.66)
    known = [(s.frame_index, s.result_age_frames, s.tracked.boxes_xyxy[:, 0].tolist()) for s in policy.states]
    assert known == [(0, 0, []), (2, 2, [2.0]), (6, 6, [6.0])]


def test_result_starts_the_offload_of_the_newest_frame(plain: ClientMachine) -> None:
    for index in range(4):
        plain.handle(captured(index, tracking=False), index * INTERVAL_S)
    end, start = plain.handle(result(0, 0), 0.35)
    assert end == EndOffload(0, OffloadStatus.OK)
    assert (start.offload_id, start.frame.index) == (1, 3)


class Observing(Back2Back):
    """Notes what it learns, and of what age it was told the boxes to be."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[float | None, float]] = []
        self.ages: list[int] = []

    def decide(self, state: ClientState) -> OffloadDecision:
        self.ages.append(state.result_age_frames)
        return super().decide(state)

    def observe(self, outcome: OffloadOutcome) -> None:
        self.seen.append((outcome.agreement, outcome.agreement_age_s))


def test_a_policy_learns_how_well_earlier_boxes_agree_with_a_result() -> None:
    policy = Observing()
    machine = machine_with(policy)
    machine.handle(LinkChanged(up=True), 0.0)
    for index in range(9):
        machine.handle(captured(index, tracking=False), index * INTERVAL_S)
        for number, (offloaded, arrival, x) in enumerate(((0, 2, 0.0), (2, 5, 0.0), (5, 8, 8.0))):
            if arrival == index:
                machine.handle(result(number, offloaded, x), index * INTERVAL_S)
    assert policy.seen == [(None, 0.0), (1.0, pytest.approx(0.2)), (0.0, pytest.approx(0.3))]
    assert policy.ages == [0, 2, 3, 3]


def test_with_two_in_flight_the_second_is_sent_when_the_server_will_be_free() -> None:
    machine = machine_with(build_policy("trackb2b"), in_flight=2)
    machine.handle(LinkChanged(up=True), 0.0)
    starts: list[tuple[int, int]] = []
    for index in range(9):  # results take 0.4 s, encoding and upload 0.11 s, decoding and inference 0.21 s
        now_s = index * INTERVAL_S
        for number, frame in [entry for entry in starts if entry[1] == index - 4 and entry[0] in machine.outstanding]:
            actions = machine.handle(result(number, frame), now_s)
            starts += [(start.offload_id, start.frame.index) for start in of_type(actions, StartOffload)]
        actions = machine.handle(captured(index), now_s)
        starts += [(start.offload_id, start.frame.index) for start in of_type(actions, StartOffload)]
    # The first waits alone; from its result on, a frame follows another after 0.21 s, which is three frames later.
    assert [frame for _, frame in starts] == [0, 3, 6]
    assert machine.outstanding == [2]


def test_the_second_of_two_results_that_were_long_in_coming_is_caught_up_with() -> None:
    """While both were waited for, the history became full and was thinned."""
    machine = machine_with(build_policy("trackb2b"), history_frames=8, in_flight=2)
    machine.handle(LinkChanged(up=True), 0.0)
    machine.handle(captured(0), 0.0)
    machine.handle(result(0, 0), 0.0)
    machine.handle(TrackingDone(0, boxes(0.0), 1.0), 0.0)
    sent: list[int] = []
    for index in range(1, 40):
        actions = machine.handle(captured(index), index * INTERVAL_S)
        sent += [start.frame.index for start in of_type(actions, StartOffload)]
        machine.handle(TrackingDone(index, boxes(0.0), 1.0), index * INTERVAL_S)
    for number, frame_index in enumerate(sent, start=1):
        (catch_up,) = of_type(machine.handle(result(number, frame_index), 4.0), CatchUp)
        assert (indices(catch_up)[0], indices(catch_up)[-1]) == (frame_index, 39)
        machine.handle(TrackingDone(39, boxes(0.0), 1.0), 4.0)
    assert len(sent) == 2


def test_a_frame_in_which_boxes_are_being_located_can_be_caught_up_from() -> None:
    machine = machine_with(build_policy("fixed"), history_frames=4)
    machine.handle(LinkChanged(up=True), 0.0)
    machine.handle(captured(0), 0.0)
    machine.handle(result(0, 0), 0.0)
    machine.handle(TrackingDone(0, boxes(0.0), 1.0), 0.0)
    (locate,) = of_type(machine.handle(captured(1), 0.1), Locate)
    assert indices(locate) == [0, 1]
    for index in range(2, 7):
        machine.handle(captured(index), index * INTERVAL_S)
    (start, _) = machine.handle(BoxesLocated(1, boxes(0.0)), 0.7)
    assert start.frame.index == 1
    machine.handle(TrackingDone(6, boxes(0.0), 1.0), 0.8)
    (locate,) = of_type(machine.handle(result(1, 1), 0.9), Locate)
    assert (indices(locate)[0], indices(locate)[-1]) == (1, 6)


def test_all_offloads_in_flight_are_lost_with_the_connection() -> None:
    machine = machine_with(build_policy("back2back"), in_flight=2)
    machine.handle(LinkChanged(up=True), 0.0)
    machine.handle(captured(0, tracking=False), 0.0)
    machine.handle(result(0, 0), 0.05)
    for index in range(1, 6):
        machine.handle(captured(index, tracking=False), index * INTERVAL_S)
    assert machine.outstanding == [1, 2]
    ends = machine.handle(LinkChanged(up=False, reason="gone"), 0.6)
    assert ends == [EndOffload(number, OffloadStatus.LOST, "gone") for number in (1, 2)]
    assert machine.outstanding == []


def test_an_object_that_one_result_misses_is_kept_until_the_next() -> None:
    machine = machine_with(build_policy("back2back"), keep_missed=True)
    machine.handle(LinkChanged(up=True), 0.0)
    shown = []
    for number, x in enumerate((0.0, 8.0, 8.0)):
        machine.handle(captured(number, tracking=False), number * INTERVAL_S)
        machine.handle(result(number, number, x), number * INTERVAL_S + 0.05)
        (render,) = machine.handle(RenderDue(number), (number + 1) * INTERVAL_S)
        shown.append(sorted(render.detections.boxes_xyxy[:, 0].tolist()))
    assert shown == [[0.0], [0.0, 8.0], [8.0]]


class Sighted(Back2Back):
    """Notes the masks of the objects that it decides by."""

    uses_objects = True

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Masks | None] = []

    def decide(self, state: ClientState) -> OffloadDecision:
        self.seen.append(state.tracked.masks)
        return super().decide(state)


@pytest.mark.parametrize("relevance", ["masks", "boxes"])
def test_a_policy_sees_masks_unless_boxes_are_to_count(relevance: str) -> None:
    policy = Sighted()
    machine = machine_with(policy, relevance=relevance)
    machine.handle(LinkChanged(up=True), 0.0)
    machine.handle(captured(0), 0.0)
    found = result(0, 0)
    masks = np.full((1, MASK_SIDE, MASK_SIDE), 255, np.uint8)
    machine.handle(replace(found, detections=replace(found.detections, masks=masks)), 0.05)
    actions = machine.handle(captured(1), INTERVAL_S)
    (locate,) = of_type(actions, Locate)
    machine.handle(BoxesLocated(1, locate.detections), INTERVAL_S)
    assert [seen is not None for seen in policy.seen] == [False, relevance == "masks"]
    (render,) = machine.handle(RenderDue(1), 2 * INTERVAL_S)
    assert render.detections.masks is not None, "what is shown has its masks either way"


class Caching(Back2Back):
    """Has the tokens of every frame cached, and notes what it sees of them."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[CachedFrame | None] = []

    def decide(self, state: ClientState) -> OffloadDecision:
        self.seen.append(state.cached_frame)
        return OffloadDecision(Configuration(0, 95, 3), caching=TokenCaching())


def cached_result(offload_id: int, frame_index: int, tokens_cached: bool = True) -> ResultArrived:
    plain, decision = result(offload_id, frame_index), OffloadDecision(Configuration(0, 95, 3), caching=TokenCaching())
    return replace(plain, outcome=replace(plain.outcome, decision=decision, tokens_cached=tokens_cached))


def test_a_policy_knows_what_the_server_has_cached_until_that_may_be_lost() -> None:
    policy = Caching()
    machine = machine_with(policy)
    machine.handle(LinkChanged(up=True), 0.0)
    for index, event in enumerate(
        [
            cached_result(0, 0),
            cached_result(1, 1, tokens_cached=False),  # no room, but what was cached before is there
            OffloadRefused(2, "no cached tokens of offload 0"),
            cached_result(3, 3),
            LinkChanged(up=False),
        ]
    ):
        machine.handle(captured(index, tracking=False), index * INTERVAL_S)
        machine.handle(event, index * INTERVAL_S + 0.05)
    machine.handle(LinkChanged(up=True), 0.5)
    machine.handle(captured(5, tracking=False), 0.5)
    first = CachedFrame(0, 0, 3)
    assert policy.seen == [None, first, first, None, CachedFrame(3, 3, 3), None]


def test_same_frame_is_never_offloaded_twice(plain: ClientMachine) -> None:
    plain.handle(captured(0, tracking=False), 0.0)
    assert plain.handle(result(0, 0), 0.05) == [EndOffload(0, OffloadStatus.OK)]
    (start,) = plain.handle(captured(1, tracking=False), 0.1)
    assert start.frame.index == 1


def test_nothing_is_offloaded_before_the_link_is_up() -> None:
    machine = machine_with(build_policy("back2back"))
    assert machine.handle(captured(0, tracking=False), 0.0) == []
    (start,) = machine.handle(LinkChanged(up=True), 0.05)
    assert start.frame.index == 0


def test_render_without_tracker_is_none_then_remote_then_stale(plain: ClientMachine) -> None:
    plain.handle(captured(0, tracking=False), 0.0)
    assert plain.handle(RenderDue(0), 0.1)[0].source is BoxSource.NONE
    plain.handle(captured(1, tracking=False), 0.1)
    plain.handle(result(0, 0), 0.15)
    plain.handle(result(1, 1, x=7), 0.18)
    remote = plain.handle(RenderDue(1), 0.2)[0]
    assert (remote.source, remote.result_frame_index, remote.shown_frame_index) == (BoxSource.REMOTE, 1, 1)
    assert remote.detections.boxes_xyxy[0, 0] == 7
    stale = plain.handle(RenderDue(2), 0.3)[0]
    assert (stale.source, stale.result_frame_index, stale.shown_frame_index) == (BoxSource.STALE, 1, 1)


def test_result_is_caught_up_through_the_frames_captured_since(tracking: ClientMachine) -> None:
    for index in range(4):
        tracking.handle(captured(index), index * INTERVAL_S)
    actions = tracking.handle(result(0, 0), 0.35)
    (catch_up,) = of_type(actions, CatchUp)
    assert [index for index, _ in catch_up.frames] == [0, 1, 2, 3]
    # While the tracker is busy a new frame waits, and the renderer gets what there is.
    assert of_type(tracking.handle(captured(4), 0.4), Track) == []
    assert tracking.handle(RenderDue(4), 0.5)[0].source is BoxSource.STALE
    (track,) = tracking.handle(TrackingDone(3, boxes(3), 1.0), 0.45)
    assert indices(track) == [4]
    shown = tracking.handle(RenderDue(4), 0.5)[0]
    assert (shown.source, shown.result_frame_index, shown.shown_frame_index) == (BoxSource.TRACKER, 0, 3)


def test_second_catch_up_starts_at_its_own_frame_even_if_the_tracker_was_busy(tracking: ClientMachine) -> None:
    tracking.handle(captured(0), 0.0)
    tracking.handle(captured(1), 0.1)
    tracking.handle(result(0, 0), 0.15)  # starts offload 1 of frame 1, catch-up 0..1 runs
    tracking.handle(captured(2), 0.2)
    tracking.handle(captured(3), 0.3)
    assert of_type(tracking.handle(result(1, 1), 0.35), CatchUp) == []  # still busy
    (catch_up,) = of_type(tracking.handle(TrackingDone(1, boxes(1), 1.0), 0.4), CatchUp)
    assert [index for index, _ in catch_up.frames] == [1, 2, 3]


def test_frames_that_came_during_a_catch_up_are_followed_one_by_one(tracking: ClientMachine) -> None:
    for index in range(6):
        tracking.handle(captured(index), index * INTERVAL_S)
    tracking.handle(result(0, 0), 0.55)  # five steps
    for index in range(6, 9):
        tracking.handle(captured(index), index * INTERVAL_S)
    (track,) = tracking.handle(TrackingDone(5, boxes(5), 1.0), 0.85)
    assert indices(track) == [6, 7, 8]
    tracking.handle(captured(9), 0.9)
    (track,) = tracking.handle(TrackingDone(8, boxes(8), 1.0), 0.95)
    assert indices(track) == [9]
    assert tracking.handle(TrackingDone(9, boxes(9), 1.0), 0.96) == [], "it has arrived"


def test_a_tracker_that_would_never_arrive_skips_to_the_newest_frame(tracking: ClientMachine) -> None:
    for index in range(3):
        tracking.handle(captured(index), index * INTERVAL_S)
    tracking.handle(result(0, 0), 0.25)  # two steps, which last as long as two frames
    for index in range(3, 5):
        tracking.handle(captured(index), index * INTERVAL_S)
    (track,) = tracking.handle(TrackingDone(2, boxes(2), 1.0), 0.45)
    assert indices(track) == [4]


def test_tracker_skips_to_the_newest_frame(tracking: ClientMachine) -> None:
    tracking.handle(captured(0), 0.0)
    tracking.handle(result(0, 0), 0.05)
    tracking.handle(TrackingDone(0, boxes(0), 1.0), 0.06)
    (track,) = of_type(tracking.handle(captured(1), 0.1), Track)
    assert indices(track) == [1]
    tracking.handle(captured(2), 0.2)
    tracking.handle(captured(3), 0.3)
    (track,) = tracking.handle(TrackingDone(1, boxes(1), 1.0), 0.35)
    assert indices(track) == [3]


def test_link_down_loses_the_offload_and_link_up_starts_another(tracking: ClientMachine) -> None:
    tracking.handle(captured(0), 0.0)
    lost = EndOffload(0, OffloadStatus.LOST, "server gone")
    assert tracking.handle(LinkChanged(up=False, reason="server gone"), 0.1) == [lost]
    assert of_type(tracking.handle(captured(1), 0.2), StartOffload) == []
    assert tracking.handle(result(0, 0), 0.25) == []  # too late: its end is on record
    (start,) = of_type(tracking.handle(LinkChanged(up=True), 0.3), StartOffload)
    assert (start.offload_id, start.frame.index) == (1, 1)


def test_silence_past_the_timeout_loses_the_offload_and_asks_for_another_connection(plain: ClientMachine) -> None:
    plain.handle(captured(0, tracking=False), 0.0)
    assert of_type(plain.handle(RenderDue(40), 4.9), EndOffload) == []
    end, reconnect, render = plain.handle(RenderDue(50), 5.1)
    assert (end.status, end.reason) == ("lost", "no answer within 5 s")
    assert isinstance(reconnect, Reconnect)
    assert isinstance(render, Render)
    assert plain.handle(captured(51, tracking=False), 5.15) == [], "nothing starts without a connection"
    (start,) = plain.handle(LinkChanged(up=True), 5.2)
    assert (start.offload_id, start.frame.index) == (1, 51)


def test_refused_offload_waits_for_the_next_frame(plain: ClientMachine) -> None:
    plain.handle(captured(0, tracking=False), 0.0)
    plain.handle(captured(1, tracking=False), 0.1)
    assert plain.handle(OffloadRefused(0, "busy"), 0.15) == [EndOffload(0, OffloadStatus.FAILED, "busy")]
    (start,) = plain.handle(captured(2, tracking=False), 0.2)
    assert start.frame.index == 2


def test_finish_loses_what_is_under_way(plain: ClientMachine) -> None:
    plain.handle(captured(0, tracking=False), 0.0)
    assert plain.finish("the run ended") == [EndOffload(0, OffloadStatus.LOST, "the run ended")]
    assert plain.finish("the run ended") == []


def spied(policy: str, seen: list[ClientState]) -> ClientMachine:
    """A machine whose policy notes every state that it is asked about."""

    class Spy(type(build_policy(policy))):  # type: ignore[misc]
        def decide(self, state: ClientState) -> OffloadDecision:
            seen.append(state)
            return super().decide(state)

    machine = machine_with(Spy())
    machine.handle(LinkChanged(up=True), 0.0)
    return machine


def test_policy_sees_the_stride_and_the_tracker() -> None:
    seen: list[ClientState] = []
    machine = spied("trackb2b", seen)
    for index in range(3):
        machine.handle(captured(index), index * INTERVAL_S)
    machine.handle(result(0, 0), 0.25)
    machine.handle(TrackingDone(2, boxes(5), 0.5), 0.26)
    machine.handle(captured(3), 0.3)
    machine.handle(result(1, 2), 0.35)
    assert [(s.frame_index, s.frames_since_offload) for s in seen] == [(0, 0), (2, 2), (3, 1)]
    assert seen[0].frame_size == (16, 8)
    assert seen[2].retention == 0.5


def test_decision_waits_until_the_boxes_of_the_result_are_located_in_its_frame() -> None:
    seen: list[ClientState] = []
    machine = spied("trackroi", seen)
    for index in range(4):
        machine.handle(captured(index), index * INTERVAL_S)
    end, locate = machine.handle(result(0, 0, x=3), 0.35)
    assert end == EndOffload(0, OffloadStatus.OK)
    assert isinstance(locate, Locate)
    assert (indices(locate), locate.detections.boxes_xyxy[0, 0]) == ([0, 1, 2, 3], 3)
    assert machine.handle(captured(4), 0.4) == [], "frame 3 is the one to offload"
    start, catch_up = machine.handle(BoxesLocated(3, boxes(9)), 0.41)
    assert (start.frame.index, indices(catch_up)) == (3, [0, 1, 2, 3, 4])
    assert (seen[-1].frame_index, seen[-1].tracked.boxes_xyxy[:, 0].tolist()) == (3, [9])


def test_decision_waits_for_a_tracker_that_is_busy() -> None:
    machine = spied("trackroi", [])
    machine.handle(captured(0), 0.0)
    machine.handle(captured(1), 0.1)
    machine.handle(result(0, 0), 0.15)
    machine.handle(BoxesLocated(1, boxes(1)), 0.16)  # offloads frame 1, and the tracker begins to catch up
    machine.handle(captured(2), 0.2)
    assert machine.handle(result(1, 1), 0.25) == [EndOffload(1, OffloadStatus.OK)]
    (locate,) = machine.handle(TrackingDone(1, boxes(1), 1.0), 0.26)
    assert isinstance(locate, Locate)
    assert indices(locate) == [1, 2]


def test_boxes_of_the_tracker_are_located_in_a_frame_that_it_has_not_seen() -> None:
    machine = spied("trackroi", [])
    machine.handle(captured(0), 0.0)
    (catch_up,) = machine.handle(result(0, 0), 0.05)[1:]
    assert isinstance(catch_up, CatchUp), "no newer frame to offload"
    machine.handle(TrackingDone(0, boxes(2), 1.0), 0.06)
    (locate,) = of_type(machine.handle(captured(1), 0.1), Locate)
    assert (indices(locate), locate.detections.boxes_xyxy[0, 0]) == ([0, 1], 2)
    start, track = machine.handle(BoxesLocated(1, boxes(3)), 0.11)
    assert isinstance(track, Track)
    assert (start.frame.index, indices(track)) == (1, [1])


def test_link_that_goes_down_while_boxes_are_located_starts_no_offload() -> None:
    machine = spied("trackroi", [])
    machine.handle(captured(0), 0.0)
    machine.handle(captured(1), 0.1)
    machine.handle(result(0, 0), 0.15)
    assert machine.handle(LinkChanged(up=False, reason="gone"), 0.152) == []
    (catch_up,) = machine.handle(BoxesLocated(1, boxes(1)), 0.155)
    assert isinstance(catch_up, CatchUp)
    machine.handle(TrackingDone(1, boxes(1), 1.0), 0.16)
    (start,) = machine.handle(LinkChanged(up=True), 0.17)
    assert start.frame.index == 1, "the tracker's boxes lie on it"


def test_result_without_objects_needs_no_locating() -> None:
    machine = spied("trackroi", [])
    machine.handle(captured(0), 0.0)
    machine.handle(captured(1), 0.1)
    _, start, _ = machine.handle(ResultArrived(0, Detections.empty(), result(0, 0).outcome), 0.15)
    assert isinstance(start, StartOffload)
    assert start.frame.index == 1


class Declining(TrackB2B):
    """Declines every frame but those of the given numbers, and notes what it was asked about."""

    def __init__(self, *accepted: int, objects: bool = False) -> None:
        super().__init__()
        self.uses_objects = objects
        self.asked: list[tuple[int, int]] = []
        self._accepted = accepted

    def decide(self, state: ClientState) -> OffloadDecision | None:
        self.asked.append((state.frame_index, state.frames_since_offload))
        return super().decide(state) if state.frame_index in self._accepted else None


def test_a_declined_frame_is_asked_about_once_and_the_next_one_when_it_comes() -> None:
    policy = Declining(0, 3)
    machine = machine_with(policy)
    machine.handle(LinkChanged(up=True), 0.0)
    machine.handle(captured(0), 0.0)
    machine.handle(captured(1), 0.1)
    end, decline, catch_up = machine.handle(result(0, 0), 0.15)
    assert (end, decline) == (EndOffload(0, OffloadStatus.OK), DeclineOffload(1))
    assert isinstance(catch_up, CatchUp), "tracking goes on"
    machine.handle(TrackingDone(1, boxes(1), 1.0), 0.16)
    machine.handle(LinkChanged(up=True), 0.17)
    assert machine.outstanding == []
    decline, track = machine.handle(captured(2), 0.2)
    assert decline == DeclineOffload(2)
    assert indices(track) == [2]
    (start,) = machine.handle(captured(3), 0.3)
    assert (start.offload_id, start.frame.index) == (1, 3)
    assert policy.asked == [(0, 0), (1, 1), (2, 2), (3, 3)]


def test_declining_for_long_keeps_the_history_short_and_the_boxes_located() -> None:
    policy = Declining(0, objects=True)
    machine = machine_with(policy, history_frames=8)
    machine.handle(LinkChanged(up=True), 0.0)
    machine.handle(captured(0), 0.0)
    machine.handle(result(0, 0), 0.05)
    machine.handle(TrackingDone(0, boxes(0), 1.0), 0.06)
    for index in range(1, 100):
        (locate,) = machine.handle(captured(index), index * INTERVAL_S)
        assert indices(locate) == [index - 1, index]
        decline, track = machine.handle(BoxesLocated(index, boxes(index)), index * INTERVAL_S + 0.01)
        assert (decline, indices(track)) == (DeclineOffload(index), [index])
        machine.handle(TrackingDone(index, boxes(index), 1.0), index * INTERVAL_S + 0.02)
    assert [frame for frame, _ in policy.asked] == list(range(100))


def test_motion_analyzer_gets_the_newest_frame_when_it_is_idle() -> None:
    machine = spied("trackroi", [])
    (job,) = of_type(machine.handle(captured(0), 0.0), AnalyseMotion)
    assert job.frame.index == 0
    for index in (1, 2, 3):
        assert of_type(machine.handle(captured(index), index * INTERVAL_S), AnalyseMotion) == []
    (job,) = machine.handle(MotionAnalysed(Motion(np.zeros((1, 1), np.float32), 0.0)), 0.35)
    assert job.frame.index == 3, "frames that it was too late for are skipped"
    assert machine.handle(MotionAnalysed(Motion(np.zeros((1, 1), np.float32), 0.0)), 0.38) == []


def test_motion_is_analysed_for_policies_that_look_at_it_only(tracking: ClientMachine) -> None:
    assert of_type(tracking.handle(captured(0), 0.0), AnalyseMotion) == []


def test_policy_knows_what_has_happened_so_far_and_nothing_later() -> None:
    seen: list[ClientState] = []
    machine = spied("trackroi", seen)
    first, second = (Motion(np.full((1, 1), share, np.float32), share) for share in (0.25, 0.5))
    machine.handle(captured(0), 0.0)
    machine.handle(MotionAnalysed(first), 0.05)
    machine.handle(captured(1), 0.1)
    machine.handle(result(0, 0, x=3), 0.15)
    machine.handle(BoxesLocated(1, boxes(4)), 0.155)  # starts the offload of frame 1, whose analysis is under way
    machine.handle(MotionAnalysed(second), 0.16)
    machine.handle(TrackingDone(1, boxes(5), 1.0), 0.17)
    machine.handle(captured(2), 0.2)
    machine.handle(TrackingDone(2, boxes(6), 1.0), 0.21)
    machine.handle(result(1, 1, x=9), 0.25)
    machine.handle(BoxesLocated(2, boxes(10)), 0.255)
    assert [(s.frame_index, s.results) for s in seen] == [(0, 0), (1, 1), (2, 2)]
    assert [s.motion for s in seen] == [None, first, second]
    # Objects: none; those of the first result where they are in frame 1; those of the second where they are in frame 2.
    assert [s.tracked.boxes_xyxy[:, 0].tolist() for s in seen] == [[], [4], [10]]
    assert seen[0].grid == GEOMETRY.grid(16, 8)


def test_long_wait_thins_the_history_but_keeps_the_offloaded_frame(tracking: ClientMachine) -> None:
    machine = machine_with(build_policy("trackb2b"), offload_timeout_s=1e9, history_frames=8)
    machine.handle(LinkChanged(up=True), 0.0)
    for index in range(1000):
        machine.handle(captured(index), index * INTERVAL_S)
    (catch_up,) = of_type(machine.handle(result(0, 0), 100.0), CatchUp)
    indices = [index for index, _ in catch_up.frames]
    assert len(indices) <= 8
    assert (indices[0], indices[-1]) == (0, 999)
    assert indices == sorted(indices)
