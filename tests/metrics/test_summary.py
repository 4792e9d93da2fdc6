from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vitmalis.metrics import MatchRule, f1_over_time, summarise
from vitmalis.records import FrameRecord, OffloadRecord
from vitmalis.types import Detections

A = Detections.of([[0, 0, 10, 10]], [0.9], [0])
B = Detections.of([[50, 50, 60, 60]], [0.9], [0])
NONE = Detections.empty()


def frame(index: int, detections: Detections = NONE, **values: Any) -> FrameRecord:
    time_s = index * 0.25
    return FrameRecord(
        frame_index=index, capture_time_s=time_s, render_time_s=time_s + 0.25, detections=detections, **values
    )


def offload(number: int, frame_index: int, detections: Detections = NONE, **values: Any) -> OffloadRecord:
    return OffloadRecord(
        offload_id=number, frame_index=frame_index, start_time_s=frame_index * 0.25, detections=detections, **values
    )


def test_reasons_are_shares_of_the_explained_decisions() -> None:
    reasons = ("knee", "stale", "knee", "retention", None)
    offloads = [offload(number, number, decision_reason=reason) for number, reason in enumerate(reasons)]
    summary = summarise([frame(0)], offloads, None)
    shares = {name: value for name, value in summary.items() if name.startswith("share_decided_")}
    assert shares == {"share_decided_knee": 0.5, "share_decided_retention": 0.25, "share_decided_stale": 0.25}


def test_the_bias_of_estimated_f1_weighs_frames_by_their_boxes() -> None:
    references = [A, Detections.of([[0, 0, 10, 10], [50, 50, 60, 60]], [0.9, 0.9], [0, 0]), NONE]
    offloads = [
        offload(0, 0, A, estimated_f1=0.9),  # F1 1, counts 2
        offload(1, 1, A, estimated_f1=0.8),  # F1 2/3, counts 3
        offload(2, 2, NONE, estimated_f1=0.1),  # no boxes: counts nothing
        offload(3, 0, NONE),  # nothing estimated
        offload(4, 0, NONE, estimated_f1=0.1, status="lost", reason="timeout"),
    ]
    assert summarise([], offloads, references)["inference_f1_bias"] == pytest.approx((2 * 0.9 + 3 * 0.8) / 5 - 4 / 5)
    assert "inference_f1_bias" not in summarise([], offloads[3:], references)


def test_what_a_bandit_expects_is_no_estimate_before_its_first_result_and_never_an_f1() -> None:
    expected = {"estimated_f1": 0.4, "payload_bytes": 1000, "e2e_latency_s": 0.5}
    untried = {"estimated_payload_bytes": 0.0, "estimated_e2e_latency_s": 0.0, "decision_reason": "explore"}
    tried = {"estimated_payload_bytes": 900.0, "estimated_e2e_latency_s": 0.4, "decision_reason": "exploit"}
    first, second = offload(0, 0, A, **expected, **untried), offload(1, 1, A, **expected, **tried)
    assert not [name for name in summarise([], [first], [A]) if "error" in name or "bias" in name]
    metrics = summarise([], [first, second], [A, A])
    assert metrics["payload_error_percent_mean"] == pytest.approx(10)
    assert metrics["e2e_latency_error_percent_mean"] == pytest.approx(20)
    assert "inference_f1_bias" not in metrics


def test_a_small_run_by_hand() -> None:
    references = [A, A, B, B]
    frames = [
        frame(0),  # nothing yet: a miss
        frame(1, captured=False),  # lost by the camera: a miss
        # Too late: a miss and a false box.
        frame(2, A, declined=True, source="stale", result_frame_index=0, shown_frame_index=0),
        frame(3, B, source="tracker", result_frame_index=0, shown_frame_index=2, tracking_s=0.01),  # found
    ]
    offloads = [
        offload(0, 0, A, e2e_latency_s=0.4, uplink_s=0.2, payload_bytes=2048, uplink_mbps=8.0),
        offload(1, 2, status="lost", reason="timeout"),
        offload(2, 3, NONE, e2e_latency_s=0.2, uplink_s=0.1, payload_bytes=1024, uplink_mbps=4.0),
    ]
    summary = summarise(frames, offloads, references)
    assert summary["rendering_f1"] == pytest.approx(2 / (2 + 1 + 3))
    assert summary["rendering_f1_after_first_result"] == pytest.approx(2 / (2 + 1 + 1))  # of frames 2 and 3
    assert summary["rendering_precision"] == pytest.approx(1 / 2)
    assert summary["rendering_recall"] == pytest.approx(1 / 4)
    assert summary["inference_f1"] == pytest.approx(2 / 3)  # A found, B missed; the lost offload does not count
    assert summary["frames"] == 4
    assert summary["lost_frames"] == 1
    assert summary["declined_frames"] == 1
    assert summary["offloads"] == 3
    assert summary["lost_offloads"] == 1
    assert summary["e2e_latency_s_median"] == pytest.approx(0.3)
    assert summary["e2e_latency_s_mean"] == pytest.approx(0.3)
    assert summary["e2e_latency_s_p90"] == pytest.approx(0.38)
    assert summary["uplink_s_median"] == pytest.approx(0.15)
    assert summary["offload_interval_frames_median"] == pytest.approx(1.5)  # intervals 2 and 1
    assert summary["payload_kib_median"] == pytest.approx(1.5)
    assert summary["uplink_mbps_median"] == pytest.approx(6.0)
    assert summary["share_none"] == 0.5
    assert summary["share_tracker"] == 0.25
    assert summary["staleness_frames_median"] == pytest.approx(1.5)  # frames 2 -> 0 and 3 -> 2
    assert summary["result_age_frames_median"] == pytest.approx(2.5)
    assert summary["tracking_s_median"] == pytest.approx(0.01)


def test_what_has_no_value_is_left_out() -> None:
    summary = summarise([frame(0)], [], [A])
    assert summary["rendering_f1"] == 0.0
    assert summary["offloads"] == 0
    assert not {
        "inference_f1",
        "rendering_f1_after_first_result",
        "e2e_latency_s_median",
        "offload_interval_frames_median",
    } & set(summary)


def test_where_nothing_is_to_be_found_there_is_no_f1() -> None:
    weak = Detections.of([[0, 0, 10, 10]], [0.4], [0])  # below the score from which a box counts
    for references in ([NONE, NONE], [weak, NONE]):
        empty = summarise([frame(0), frame(1)], [offload(0, 0, e2e_latency_s=0.4)], references)
        assert not [name for name in empty if "f1" in name or "precision" in name or "recall" in name]
        assert empty["e2e_latency_s_median"] == pytest.approx(0.4)
    false_boxes = summarise([frame(0, A), frame(1)], [offload(0, 0, A, e2e_latency_s=0.4)], [NONE, NONE])
    assert false_boxes["rendering_precision"] == 0.0
    assert not [name for name in false_boxes if "f1" in name or "recall" in name]


def test_without_references_there_is_no_f1() -> None:
    summary = summarise([frame(0, A)], [offload(0, 0, A, e2e_latency_s=0.4)], None)
    assert summary["e2e_latency_s_median"] == pytest.approx(0.4)
    assert not [name for name in summary if "f1" in name]


def test_showing_the_reference_is_perfect() -> None:
    references = [A, B, NONE]
    frames = [frame(i, r, source="remote", shown_frame_index=i) for i, r in enumerate(references)]
    assert summarise(frames, [], references)["rendering_f1"] == 1.0


def test_the_rule_is_configurable() -> None:
    near = Detections.of([[2, 0, 12, 10]], [0.9], [0])  # IoU 80 / 120
    strict = summarise([frame(0, near)], [], [A], MatchRule(iou_threshold=0.7))
    assert strict["rendering_f1"] == 0.0
    assert summarise([frame(0, near)], [], [A])["rendering_f1"] == 1.0


def test_f1_over_time_sums_inside_windows() -> None:
    references = [A] * 8 + [NONE] * 4
    frames = [frame(i, A if i in (0, 4, 5, 6, 7) else NONE) for i in range(12)]  # four frames a second
    time_s, f1 = f1_over_time(frames, references, window_s=1.0)
    np.testing.assert_allclose(time_s, [0, 1, 2])
    np.testing.assert_allclose(f1, [2 / 5, 1, np.nan])  # nothing to find in the last window


def test_window_borders_do_not_depend_on_rounding() -> None:
    frames = [
        FrameRecord(frame_index=i, capture_time_s=i * 0.1, render_time_s=i * 0.1) for i in range(30)
    ]  # 3 * 0.1 > 0.3, 6 * 0.1 > 0.6 and 29 * 0.1 < 2.9
    time_s, _ = f1_over_time(frames, [A] * 30, window_s=0.1)
    assert len(time_s) == 30


def test_no_frames_no_curve() -> None:
    time_s, f1 = f1_over_time([], [])
    assert len(time_s) == len(f1) == 0


def test_frames_whose_images_came_too_late_are_counted_apart_from_those_that_the_client_lost() -> None:
    frames = [frame(0), frame(1, captured=False), frame(2, captured=False, undelivered=True)]
    summary = summarise(frames, [], None)
    assert (summary["lost_frames"], summary["undelivered_frames"]) == (2.0, 1.0)
    assert "undelivered_frames" not in summarise(frames[:2], [], None)
