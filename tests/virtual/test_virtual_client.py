"""The virtual driver with exact durations: every time in the records can be computed by hand."""

from __future__ import annotations

from itertools import groupby, pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.server.blob_server import GEOMETRY, BlobDetector
from vitmalis.client.recorder import Recorder
from vitmalis.client.session import ClientSession
from vitmalis.errors import UserError
from vitmalis.estimation.latency import EncodeTable, InferenceFit, LatencyTables
from vitmalis.estimation.stage_times import StageTimes, TrackerTimes, WholeFrame
from vitmalis.network.emulation.link import wire_bytes
from vitmalis.network.traces import Trace, constant_trace
from vitmalis.network.wire import coding, messages
from vitmalis.offload import OffloadDecision
from vitmalis.policy import ClientState, Policy, build_policy
from vitmalis.policy.trackroi import TrackRoI
from vitmalis.records import FRAMES_FILE, OFFLOADS_FILE, RecordsInfo, write_frames, write_offloads
from vitmalis.tracker import FlowCacheOptions, LucasKanadeOptions, tracker_name
from vitmalis.types import Configuration
from vitmalis.video.encode import write_clip
from vitmalis.video.spec import VideoSpec
from vitmalis.virtual.client import VirtualClient
from vitmalis.virtual.durations import Durations
from vitmalis.virtual.events import EventQueue
from vitmalis.virtual.network import Connection, DirectConnection, connect, upload, zmtp_bytes
from vitmalis.virtual.server import VirtualServer
from vitmalis.virtual.testbed import FLOW_CACHE

WIDTH, HEIGHT, FPS, FRAMES = 320, 192, 10.0, 30
HALVED = WholeFrame(encode_s=0.01, decode_s=0.01, inference_s=0.06)
STAGES = StageTimes(
    prepare_s=0.001,
    tracking_step_s=0.004,
    tracking_object_s=0.001,
    motion_s=0.002,
    estimation_s=0.003,
    optimization_s=0.001,
    downsampled=HALVED,
    blanked=HALVED,
    spread={"encode": 0.1, "decode": 0.1, "inference": 0.1, "tracking": 0.1, "motion": 0.1},
)
TABLES = LatencyTables(
    device="d", server="s", model="vitdet_tiny", model_id="m", width_px=WIDTH, height_px=HEIGHT, regions=6,
    encode=EncodeTable(downsampled_regions=(0,), qualities=(95,), encode_s=((0.02,),)),
    decode_s=0.03,
    inference=(InferenceFit(
        restoration_point=0, intercept_s=0.2, slope_s=0.0, r2=1.0, residual_s=0.0, largest_residual_s=0.0, samples=2
    ),),
    stages=STAGES,
)  # fmt: skip
FLOW = TrackerTimes(prepare_s=0.002, job_s=0.006, step_s=0.001, locate_s=0.003)


def red_box(frame_index: int) -> tuple[int, int, int, int]:
    x = 40 + 2 * frame_index
    return x, 64, x + 64, 128


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> VideoSpec:
    path = tmp_path_factory.mktemp("video") / "red.mp4"
    rng = np.random.default_rng(0)
    wall, images = rng.integers(60, 140, (HEIGHT // 8, WIDTH // 8, 1), np.uint8).repeat(8, 0).repeat(8, 1), []
    dots = rng.integers(0, 60, (8, 8), np.uint8).repeat(8, 0).repeat(8, 1)  # for the tracker
    for i in range(FRAMES):
        image = wall.repeat(3, 2)
        x0, y0, x1, y1 = red_box(i)
        image[y0:y1, x0:x1] = np.stack([np.full_like(dots, 235), dots, dots], axis=-1)
        images.append(image)
    write_clip(path, images, FPS, (WIDTH, HEIGHT))
    return VideoSpec("red", str(path), FPS, 0, FRAMES, WIDTH, HEIGHT)


def play(
    video: VideoSpec,
    policy: str | Policy,
    seed: int | None = None,
    mbps: float | None = None,
    connection: Connection | None = None,
    tables: LatencyTables = TABLES,
    **session: object,
) -> Recorder:
    """Records of a run over a link of this capacity and 40 ms, or over the connection, or over none."""
    if connection is None:
        connection = DirectConnection() if mbps is None else connect("emulated", constant_trace(mbps, 40.0))
    built = build_policy(policy) if isinstance(policy, str) else policy
    plain = ClientSession(video=video, server_address="", output_dir="", geometry=GEOMETRY)
    client_session = msgspec.structs.replace(plain, **session)
    client = VirtualClient(
        client_session,
        built,
        VirtualServer(BlobDetector(), video, "sha"),
        connection,
        Durations(tables, seed, tracker_name(client_session.tracker)),
    )
    client.play()
    return client.recorder


def test_a_run_without_a_network_by_hand(video: VideoSpec) -> None:
    records = play(video, "back2back")
    offloads, frames = records.offloads(), records.frames()
    # 20 + 30 + 200 ms a full frame; at 250 ms frame 2 is the newest, at 500 ms frame 5 (captured right then or before).
    assert [o.e2e_latency_s for o in offloads] == pytest.approx([0.25] * len(offloads))
    assert [o.start_time_s for o in offloads[:3]] == pytest.approx([0.0, 0.25, 0.5])
    assert [o.frame_index for o in offloads[:2]] == [0, 2]
    assert [(o.encode_s, o.decode_s, o.inference_s, o.queue_s, o.network_s) for o in offloads] == [
        pytest.approx((0.02, 0.03, 0.2, 0.0, 0.0), abs=1e-12)
    ] * len(offloads)
    assert [f.frame_index for f in frames] == list(range(FRAMES))
    assert [f.render_time_s for f in frames] == pytest.approx([(i + 1) / FPS for i in range(FRAMES)])
    assert [f.source for f in frames[:3]] == ["none", "none", "stale"]  # the result comes at 250 ms, shown at 300
    assert frames[2].shown_frame_index == 0
    np.testing.assert_allclose(frames[2].detections.boxes_xyxy[0], red_box(0), atol=3)


def test_two_offloads_in_flight_hide_the_network_and_do_not_wait_for_each_other(video: VideoSpec) -> None:
    intervals, latencies = {}, {}
    for in_flight in (1, 2):
        far = connect("emulated", constant_trace(1000.0, 400.0))
        offloads = play(video, "trackb2b", connection=far, in_flight=in_flight).offloads()
        frames = [offload.frame_index for offload in offloads]
        intervals[in_flight] = [after - before for before, after in pairwise(frames)]
        latencies[in_flight] = [offload.e2e_latency_s for offload in offloads if offload.status == "ok"]
        assert {offload.queue_s for offload in offloads if offload.status == "ok"} == {0.0}
    # 20 + 30 + 200 ms and a round trip of 400: results come after 0.65 s, six or seven frames apart. With two in
    # flight, after the first result, one follows another after 0.23 s, at the third frame, if not both are under way.
    assert set(intervals[1]) == {6, 7}
    assert intervals[2][:2] == [6, 3]
    assert max(intervals[2][1:]) <= 4
    assert sum(intervals[2][1:]) / len(intervals[2][1:]) == pytest.approx(6.5 / 2, abs=0.3)
    assert latencies[1] + latencies[2] == pytest.approx([0.65] * len(latencies[1] + latencies[2]), abs=0.01)


def test_the_tracker_takes_its_time(video: VideoSpec) -> None:
    records = play(video, "trackb2b")
    # Result of frame 0 at 251 ms (the copy takes 1): frames 1 and 2 are caught up in 2 x (4 + 1) ms.
    frames = records.frames()
    assert frames[2].source == "tracker"
    assert (frames[2].result_frame_index, frames[2].shown_frame_index) == (0, 2)
    assert frames[2].tracking_s == pytest.approx(0.010)
    assert frames[3].tracking_s == pytest.approx(0.005)


def test_decisions_come_after_the_objects_are_located_in_the_frame(video: VideoSpec) -> None:
    """By hand, for both trackers: when the second offload starts, and where its decision saw the red box."""
    seen: list[ClientState] = []

    class Spy(TrackRoI):
        def decide(self, state: ClientState) -> OffloadDecision:
            seen.append(state)
            return OffloadDecision(Configuration())

    tables = msgspec.structs.replace(TABLES, stages=msgspec.structs.replace(STAGES, trackers={"flow_cache": FLOW}))
    # The first result comes 250 ms after the frame is prepared; locating takes one step, or as long as stated.
    for tracker, start_s in ((LucasKanadeOptions(), 0.001 + 0.25 + 0.005), (FlowCacheOptions(), 0.002 + 0.25 + 0.003)):
        seen.clear()
        offload = play(video, Spy(), tables=tables, tracker=tracker).offloads()[1]
        assert (offload.frame_index, offload.start_time_s) == (2, pytest.approx(start_s))
        assert [len(state.tracked) for state in seen[1:]] == [1] * len(seen[1:]), "no object counts twice"
        for state in seen[1:]:
            np.testing.assert_allclose(state.tracked.boxes_xyxy[0], red_box(state.frame_index), atol=3)


def longest_standstill(records: Recorder) -> int:
    """Most frames in a row that show the boxes of the same frame as the one before."""
    shown = [frame.shown_frame_index for frame in records.frames() if frame.source == "tracker"]
    still = [len(list(group)) for same, group in groupby(a == b for a, b in pairwise(shown)) if same]
    return max(still, default=0)


def test_the_display_stands_still_while_lucas_kanade_catches_up_and_not_with_the_flow_cache(video: VideoSpec) -> None:
    """On a device whose step of Lucas-Kanade takes 80 of the 100 ms between frames."""
    device = {"flow_cache": FLOW_CACHE.slower(8)}  # 10 ms a step on the testbed
    stages = msgspec.structs.replace(STAGES, tracking_step_s=0.079, trackers=device)
    tables = msgspec.structs.replace(TABLES, stages=stages)
    assert longest_standstill(play(video, "trackb2b", tables=tables)) > 1
    assert longest_standstill(play(video, "trackb2b", tables=tables, tracker=FlowCacheOptions())) <= 1


def test_the_display_does_not_stand_still_either_where_objects_are_located_first(video: VideoSpec) -> None:
    """The testbed's durations, as long in relation to the 100 ms between frames as to the 33 ms of its 30 FPS."""
    stages = msgspec.structs.replace(STAGES, trackers={"flow_cache": FLOW_CACHE.slower(3)})
    tables = msgspec.structs.replace(TABLES, stages=stages)
    assert longest_standstill(play(video, "trackroi", tables=tables, tracker=FlowCacheOptions())) <= 1


def test_tables_without_the_chosen_tracker_are_refused(video: VideoSpec) -> None:
    with pytest.raises(UserError, match="have no tracker 'flow_cache': measure them again"):
        play(video, "trackb2b", tracker=FlowCacheOptions())


def test_uploads_follow_the_trace_and_results_take_half_the_rtt(video: VideoSpec) -> None:
    offload = play(video, "back2back", mbps=1.0).offloads()[0]
    header = messages.Offload.of(0, 0, (WIDTH, HEIGHT), Configuration(), window_size=5, downsampling_factor=2)
    assert offload.payload_bytes is not None
    size = wire_bytes(zmtp_bytes([len(coding.encode(header)[0]), offload.payload_bytes]))
    assert offload.transfer_s == pytest.approx(size * 8 / 1e6, abs=0.030)  # opportunities of 1504 bytes are 12 ms apart
    assert offload.rtt_s == pytest.approx(0.040, abs=0.013)
    assert offload.e2e_latency_s == pytest.approx(0.25 + offload.network_s)


def test_two_runs_are_equal_to_the_bit(video: VideoSpec, tmp_path: Path) -> None:
    for name in ("one", "two"):
        records = play(video, "trackb2b", seed=3, mbps=2.0)
        info = RecordsInfo(policy="trackb2b", clip="red", clock="virtual")
        write_frames(tmp_path / name / FRAMES_FILE, records.frames(), info)
        write_offloads(tmp_path / name / OFFLOADS_FILE, records.offloads(), info)
    for file in (FRAMES_FILE, OFFLOADS_FILE):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_another_seed_draws_other_times_around_the_same_median(video: VideoSpec) -> None:
    runs = [[o.inference_s for o in play(video, "back2back", seed=seed).offloads()] for seed in (1, 2)]
    assert runs[0] != runs[1]
    assert np.median(runs[0] + runs[1]) == pytest.approx(0.2, rel=0.1)
    first = Durations(TABLES, 1)
    assert first.motion_s(5) == Durations(TABLES, 1).motion_s(5) != first.motion_s(6)


def test_an_overdue_offload_is_lost_and_its_result_ignored(video: VideoSpec) -> None:
    records = play(video, "back2back", offload_timeout_s=0.15)
    offloads = records.offloads()
    assert {o.status for o in offloads[:-1]} == {"lost"}
    assert all("0.15 s" in o.reason for o in offloads[:-1])
    assert all(f.source == "none" for f in records.frames())


def test_a_lost_payload_does_not_delay_the_next_one_which_waits_for_another_connection(video: VideoSpec) -> None:
    # Nothing passes for 0.9 s, then 4 Mbps.
    outage = Trace("outage", np.array([0.0, 0.9]), np.array([0.0, 4.0]), np.array([40.0, 40.0]), duration_s=60.0)
    played = play(video, "back2back", connection=connect("emulated", outage), offload_timeout_s=0.65)
    lost, second = played.offloads()[:2]
    assert (lost.status, lost.frame_index) == ("lost", 0)
    # Lost at 700 ms. The greeting leaves when the outage ends; three round trips later frame 10 is the newest.
    assert second.frame_index == 10
    assert second.start_time_s == pytest.approx(0.9 + 3 * 0.040, abs=0.012)
    size = wire_bytes(second.payload_bytes)
    assert second.transfer_s == pytest.approx(size * 8 / 4e6, abs=0.012), "as on an idle link"


def test_another_connection_has_a_small_congestion_window_again() -> None:
    connection, now_s, took_s = connect("emulated", constant_trace(50.0, 100.0), "tcp"), 0.0, []
    for upload_number in range(3):
        if upload_number == 2:
            now_s = connection.reconnect(now_s)
        arrived_s = connection.upload(now_s, 400_000)
        took_s.append(arrived_s - now_s)
        now_s = arrived_s + 0.05
    first, wide, again = took_s
    assert wide < first - 0.1, "the window has grown"
    assert again == pytest.approx(first, abs=0.02)


def test_the_server_works_on_a_lost_offload_that_it_has_received(video: VideoSpec) -> None:
    class SlowAtFirst(DirectConnection):
        """Takes 0.3 s for what is sent before 0.1 s."""

        def upload(self, sent_s: float, payload_bytes: int) -> float:
            return sent_s + (0.3 if sent_s < 0.1 else 0.0)

    lost, second = play(video, "back2back", connection=SlowAtFirst(), offload_timeout_s=0.35).offloads()[:2]
    # Sent at 20 ms, received at 320, lost at 400, done at 550. The second one is sent at 420 ms, and so waits.
    assert (lost.status, lost.e2e_latency_s) == ("lost", None)
    assert (second.status, second.start_time_s) == ("ok", pytest.approx(0.4))
    assert second.queue_s == pytest.approx(0.13)


def test_an_offload_in_flight_at_the_end_ends_only_within_the_drain_time(video: VideoSpec) -> None:
    assert play(video, "back2back").offloads()[-1].status == "ok"
    lost = play(video, "back2back", drain_s=0.0).offloads()[-1]
    assert (lost.status, lost.reason) == ("lost", "the run ended first")


def test_an_upload_is_announced_first() -> None:
    header = messages.Offload.of(7, 3, (96, 64), Configuration(), window_size=5, downsampling_factor=2)
    sent = upload(connect("emulated", constant_trace(12.0, 20.0)), 1.0, header, 50_000)
    assert sent.announced_s == pytest.approx(1.011, abs=0.002)
    assert sent.transfer_s == pytest.approx(50_000 * 8 / 12e6, rel=0.06)


def test_a_payload_catches_up_with_its_announcement_where_the_delay_falls_in_between() -> None:
    """The round-trip time falls from 100 to 65 ms, so that each way takes 17.5 ms less."""
    trace = Trace("falls", np.array([0.0, 1.0]), np.array([12.0, 12.0]), np.array([100.0, 65.0]))
    header = messages.Offload.of(7, 3, (96, 64), Configuration(), window_size=5, downsampling_factor=2)
    short, long = (upload(connect("emulated", trace), 0.995, header, size) for size in (15_000, 30_000))
    assert short.announced_s == long.announced_s == pytest.approx(0.996 + 0.05)
    assert short.transfer_s == 0.0, "it left at 1.007 s, and would have been there 6.5 ms before the announcement"
    assert long.transfer_s == pytest.approx(0.020 - 0.0175), "it left 20 ms after the announcement"


def test_events_run_in_the_order_of_time_and_then_of_calls() -> None:
    queue, seen = EventQueue(), []
    queue.at(0.2, lambda: seen.append("c"))
    queue.at(0.1, lambda: (seen.append("a"), queue.at(0.1, lambda: seen.append("b"))))
    queue.at(0.3, lambda: seen.append("e"))
    queue.at(0.3, lambda: seen.append("d"), first=True)
    for _ in "abcde":
        queue.step()
    assert (seen, queue.now_s) == (["a", "b", "c", "d", "e"], 0.3)
    with pytest.raises(ValueError, match="has passed"):
        queue.at(0.25, lambda: None)
