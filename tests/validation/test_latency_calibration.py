"""Calibration of latency tables: known slow-downs are found from records, and applied to tables."""

from __future__ import annotations

import msgspec
import pytest

from tests.server.blob_server import GEOMETRY, BlobDetector
from tests.virtual.test_virtual_client import TABLES, video  # noqa: F401
from vitmalis.client.session import ClientSession
from vitmalis.estimation.latency import LatencyTables
from vitmalis.network.traces import constant_trace
from vitmalis.policy import build_policy
from vitmalis.records import OffloadRecord
from vitmalis.video.spec import VideoSpec
from vitmalis.virtual.client import VirtualClient
from vitmalis.virtual.durations import Durations
from vitmalis.virtual.network import connect
from vitmalis.virtual.server import VirtualServer
from vitmalis_jobs.run.quiet_time import as_decided
from vitmalis_jobs.run.records import RunRecords
from vitmalis_jobs.validation.latency_calibration import Speed, at_speed, observed_speed

SLOWER = Speed(encode=2.0, decode=1.5, inference=1.25, tracking=3.0)


def played(video: VideoSpec, policy: str, tables: LatencyTables) -> RunRecords:  # noqa: F811
    session = ClientSession(video=video, server_address="", output_dir="", geometry=GEOMETRY, policy=policy)
    client = VirtualClient(
        session,
        build_policy(policy),
        VirtualServer(BlobDetector(), video, "sha"),
        connect("emulated", constant_trace(5.0, 40.0)),
        Durations(tables),
    )
    client.play()
    recorder = client.recorder
    return RunRecords(recorder.frames(), recorder.offloads(), recorder.decisions())


@pytest.mark.parametrize("policy", ["trackb2b", "trackroi", "trackud"])
def test_a_slower_machine_is_found_out(policy: str, video: VideoSpec) -> None:  # noqa: F811
    fast, slow = played(video, policy, TABLES), played(video, policy, at_speed(TABLES, SLOWER))
    found = observed_speed([slow, slow], fast, TABLES)
    assert msgspec.structs.astuple(found) == pytest.approx(msgspec.structs.astuple(SLOWER))
    assert observed_speed([fast], fast, TABLES) == Speed()


def test_a_policy_without_a_tracker_says_nothing_of_one(video: VideoSpec) -> None:  # noqa: F811
    slow = played(video, "back2back", at_speed(TABLES, SLOWER))
    found = observed_speed([slow], played(video, "back2back", TABLES), TABLES)
    assert found == msgspec.structs.replace(SLOWER, tracking=1.0)


def test_tables_are_brought_to_a_speed_and_say_so() -> None:
    tables = at_speed(TABLES, SLOWER)
    assert tables.host["speed"]["inference"] == 1.25
    assert float(tables.encode_s(0, 95)) == pytest.approx(0.04)
    assert tables.decode_s == pytest.approx(0.045)
    assert float(tables.inference_s(0, 0)) == pytest.approx(0.25)
    assert tables.stages is not None
    assert tables.stages.downsampled.inference_s == pytest.approx(0.075)
    assert tables.stages.tracking_object_s == pytest.approx(0.003)
    assert tables.stages.motion_s == 0.002


def test_a_record_is_a_decision_of_as_many_regions() -> None:
    record = OffloadRecord(
        offload_id=0, frame_index=0, start_time_s=0.0, tau_d=2, quality=80, restoration_point=3, regions=24,
        downsampled_regions=7,
    )  # fmt: skip
    decision = as_decided(record)
    assert decision.downsample_mask is not None
    assert int(decision.downsample_mask.sum()) == 7
    assert decision.blank_mask is None
    assert (decision.configuration.quality, decision.configuration.restoration_point) == (80, 3)
