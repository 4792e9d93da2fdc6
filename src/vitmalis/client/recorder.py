"""The recorder: collects a run's rows, one per frame, offload and explained decision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from vitmalis.client.events import EndOffload, Render, ResultArrived, StartOffload
from vitmalis.explanation import DecisionExplanation
from vitmalis.records import DecisionRecord, FrameRecord, OffloadRecord
from vitmalis.regions import ModelGeometry
from vitmalis.types import OffloadStatus

Progress = Callable[[int, int, int], None]
"""Callback with the numbers of frames rendered, offloads started and offloads lost."""


class Recorder:
    """Collects rows in memory; times are seconds on the run's clock.

    Args:
        frame_interval_s: nominal spacing of the frames; gives lost frames their capture time.
        geometry: of the server's model.
    """

    def __init__(self, frame_interval_s: float, geometry: ModelGeometry) -> None:
        self._frame_interval_s = frame_interval_s
        self._geometry = geometry
        self._capture_times_s: dict[int, float] = {}
        self._tracking_s: dict[int, float] = {}
        self._rendered: list[tuple[Render, float]] = []
        self._offloads: dict[int, OffloadRecord] = {}
        self._decisions: list[DecisionRecord] = []
        self._motion_s: float | None = None
        self._lost = 0

    def captured(self, frame_index: int, capture_time_s: float) -> None:
        """Note that a frame was taken out of the camera buffer."""
        self._capture_times_s[frame_index] = capture_time_s

    def tracked(self, frame_index: int, tracking_s: float) -> None:
        """Note how long a tracker job took that ended at this frame."""
        self._tracking_s[frame_index] = self._tracking_s.get(frame_index, 0.0) + tracking_s

    def analysed(self, motion_s: float) -> None:
        """Note how long a motion analysis took; decisions from now on know its result."""
        self._motion_s = motion_s

    def rendered(self, render: Render, now_s: float) -> None:
        """Note the boxes that were rendered on a frame, and when."""
        self._rendered.append((render, now_s))

    def offload_started(self, start: StartOffload, now_s: float, decision_s: float) -> None:
        """Open the row of an offload that was decided on, and that of its explanation."""
        decision = start.decision
        configuration, explanation = decision.configuration, decision.explanation
        height, width = start.frame.image.shape[:2]
        rows, cols = self._geometry.grid(width, height).shape
        self._offloads[start.offload_id] = OffloadRecord(
            offload_id=start.offload_id,
            frame_index=start.frame.index,
            status=OffloadStatus.LOST,
            reason="the run ended first",
            tau_d=configuration.tau_d,
            quality=configuration.quality,
            restoration_point=configuration.restoration_point,
            downsampled_regions=0 if decision.downsample_mask is None else int(decision.downsample_mask.sum()),
            blank_regions=0 if decision.blank_mask is None else int(decision.blank_mask.sum()),
            regions=rows * cols,
            frame_downsampling=decision.frame_downsampling,
            start_time_s=now_s,
            decision_s=decision_s,
            motion_s=self._motion_s,
            estimation_s=decision.estimation_s,
            optimization_s=decision.optimization_s,
            **({} if explanation is None else _expected(explanation)),
        )
        if explanation is not None:
            self._decisions.append(
                DecisionRecord(offload_id=start.offload_id, frame_index=start.frame.index, explanation=explanation)
            )

    def encoded(self, offload_id: int, start_time_s: float, encode_s: float, payload_bytes: int) -> None:
        """Note when and how fast the offload's frame was compressed, and to what size."""
        self._update(offload_id, start_time_s=start_time_s, encode_s=encode_s, payload_bytes=payload_bytes)

    def answered(self, result: ResultArrived) -> None:
        """Note what an offload cost that has a result; each direction gets half of the round trip."""
        outcome = result.outcome
        self._update(
            result.offload_id,
            transfer_s=outcome.transfer_s,
            uplink_s=outcome.transfer_s + outcome.rtt_s / 2,
            downlink_s=outcome.rtt_s / 2,
            network_s=outcome.network_s,
            queue_s=outcome.queue_s,
            decode_s=outcome.decode_s,
            inference_s=outcome.inference_s,
            e2e_latency_s=outcome.e2e_latency_s,
            rtt_s=outcome.rtt_s,
            uplink_mbps=outcome.uplink_mbps,
            detections=result.detections,
        )

    def offload_ended(self, end: EndOffload) -> None:
        """Note how an offload ended."""
        self._lost += end.status is not OffloadStatus.OK
        self._update(end.offload_id, status=end.status, reason=end.reason)

    def _update(self, offload_id: int, **values: object) -> None:
        self._offloads[offload_id] = replace(self._offloads[offload_id], **values)  # type: ignore[arg-type]

    @property
    def lost_offloads(self) -> int:
        """Number of offloads that have ended without a result."""
        return self._lost

    @property
    def frame_count(self) -> int:
        """Number of frames that have been rendered."""
        return len(self._rendered)

    @property
    def offload_count(self) -> int:
        """Number of offloads that have been started."""
        return len(self._offloads)

    def offloads(self) -> list[OffloadRecord]:
        """Return one row per offload, in the order of their start."""
        return list(self._offloads.values())

    def decisions(self) -> list[DecisionRecord]:
        """Return one row per explained decision."""
        return list(self._decisions)

    def frames(self) -> list[FrameRecord]:
        """Return one row per rendered frame; a frame lost in the camera buffer is rendered but was never captured."""
        return [
            FrameRecord(
                frame_index=render.frame_index,
                capture_time_s=self._capture_times_s.get(
                    render.frame_index, render.frame_index * self._frame_interval_s
                ),
                render_time_s=now_s,
                captured=render.frame_index in self._capture_times_s,
                source=render.source,
                result_frame_index=render.result_frame_index,
                shown_frame_index=render.shown_frame_index,
                detections=render.detections,
                tracking_s=self._tracking_s.get(render.frame_index),
            )
            for render, now_s in self._rendered
        ]


def _expected(explanation: DecisionExplanation) -> dict[str, Any]:
    """Columns of an offload whose decision was explained."""
    chosen = explanation.chosen
    return {
        "decision_reason": explanation.reason,
        "estimated_payload_bytes": float(explanation.payload_bytes[chosen]),
        "estimated_e2e_latency_s": float(explanation.e2e_latency_s[chosen]),
        "estimated_f1": float(explanation.f1[chosen]),
    }
