"""Factors on the durations of latency tables, by hand."""

from __future__ import annotations

import msgspec
import pytest

from vitmalis.estimation.latency import EncodeTable, InferenceFit, LatencyTables
from vitmalis.estimation.stage_factors import StageFactors
from vitmalis.estimation.stage_times import StageTimes, TrackerTimes, WholeFrame

FIT = InferenceFit(
    restoration_point=2, intercept_s=0.2, slope_s=-0.01, r2=1.0, residual_s=0.0, largest_residual_s=0.0, samples=2
)
TABLES = LatencyTables(
    device="d", server="s", model="m", model_id="i", width_px=320, height_px=192, regions=6,
    encode=EncodeTable(downsampled_regions=(0, 1), qualities=(95,), encode_s=((0.02,), (0.03,))),
    decode_s=0.01,
    inference=(FIT,),
    stages=StageTimes(
        prepare_s=0.001,
        tracking_step_s=0.004,
        tracking_object_s=0.001,
        motion_s=0.002,
        estimation_s=0.003,
        optimization_s=0.001,
        downsampled=WholeFrame(encode_s=0.005, decode_s=0.002, inference_s=0.05),
        blanked=WholeFrame(encode_s=0.03, decode_s=0.01, inference_s=0.2),
        trackers={"flow_cache": TrackerTimes(prepare_s=0.002, step_s=0.001, locate_s=0.003)},
    ),
)  # fmt: skip


def stages(**factors: float) -> StageTimes:
    changed = StageFactors(**factors).applied(TABLES).stages
    assert changed is not None
    return changed


def test_factors_of_one_change_nothing() -> None:
    assert StageFactors().applied(TABLES) == TABLES
    assert str(StageFactors()) == ""


def test_the_codec_takes_longer_everywhere() -> None:
    slower = StageFactors(encode=2.0, decode=3.0).applied(TABLES)
    assert slower.encode.encode_s == ((0.04,), (0.06,))
    assert slower.decode_s == pytest.approx(0.03)
    frame = stages(encode=2.0, decode=3.0).downsampled
    assert (frame.encode_s, frame.decode_s, frame.inference_s) == pytest.approx((0.01, 0.006, 0.05))


def test_a_faster_server_takes_its_share_of_every_inference() -> None:
    faster = StageFactors(inference=0.5).applied(TABLES)
    assert faster.inference_s([0, 5], [2, 2]) == pytest.approx([0.1, 0.075])
    assert stages(inference=0.5).downsampled.inference_s == pytest.approx(0.025)
    assert stages(inference=0.5).blanked.inference_s == pytest.approx(0.1)


def test_a_larger_head_saves_less_and_a_plain_frame_takes_as_long_as_before() -> None:
    """Half the saving: 0.2 - 0.5 * 0.05 with five regions, 0.2 - 0.5 * 0.15 for a frame that is smaller as a whole."""
    larger = StageFactors(saving=0.5).applied(TABLES)
    assert larger.inference_s([0, 5], [2, 2]) == pytest.approx([0.2, 0.175])
    assert stages(saving=0.5).downsampled.inference_s == pytest.approx(0.125)
    assert stages(saving=2.0).downsampled.inference_s == 0.0, "no time is negative"


def test_every_tracker_is_slower() -> None:
    slower = stages(tracking=2.0)
    assert (slower.prepare_s, slower.tracking_step_s, slower.tracking_object_s) == (0.002, 0.008, 0.002)
    flow = slower.trackers["flow_cache"]
    assert (flow.prepare_s, flow.step_s, flow.locate_s) == (0.004, 0.002, 0.006)


def test_factors_are_named_and_checked() -> None:
    assert str(StageFactors(inference=0.25, tracking=2.0)) == "inference x 0.25, tracking x 2"
    with pytest.raises(msgspec.ValidationError, match="> 0"):
        msgspec.convert({"inference": 0.0}, StageFactors)
