"""The recorder: collects a run's rows, one per frame, offload and explained decision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vitmalis.client.events import EndOffload, Render, ResultArrived, StartOffload
from vitmalis.client.recent_rows import KEPT_ROWS, RecentRows
from vitmalis.client.record_journal import RecordRows
from vitmalis.explanation import DecisionExplanation
from vitmalis.records import DecisionRecord, FrameRecord, OffloadRecord, maps
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
        self._declined: dict[int, bool] = {}
        self._frames = RecentRows[FrameRecord]()
        self._offloads = RecentRows[OffloadRecord]()
        self._decisions = RecentRows[DecisionRecord]()
        self._motion_s: float | None = None
        self._ahead_s: float | None = None
        self._lost = 0

    def captured(self, frame_index: int, capture_time_s: float) -> None:
        """Note that a frame was taken out of the camera buffer, before it is rendered or, by a slow client, after."""
        self._capture_times_s[frame_index] = capture_time_s
        self._frames.update(frame_index, capture_time_s=capture_time_s, captured=True, undelivered=None)

    def tracked(self, frame_index: int, tracking_s: float) -> None:
        """Note how long a tracker job took that ended at this frame."""
        total_s = self._tracking_s[frame_index] = self._tracking_s.get(frame_index, 0.0) + tracking_s
        self._frames.update(frame_index, tracking_s=total_s)

    def declined(self, frame_index: int) -> None:
        """Note that the policy declined to offload a frame."""
        self._declined[frame_index] = True
        self._frames.update(frame_index, declined=True)

    def analysed(self, motion_s: float) -> None:
        """Note how long a motion analysis took; decisions from now on know its result."""
        self._motion_s = motion_s

    def estimated_ahead(self, estimation_s: float) -> None:
        """Note how long the policy estimated ahead; decisions from now on know what it found."""
        self._ahead_s = estimation_s

    def rendered(self, render: Render, now_s: float, delivered: bool = True) -> None:
        """Note the boxes that were rendered on a frame, and when; a frame lost by the camera was never captured.

        Args:
            render: the boxes.
            now_s: when.
            delivered: whether the frame reached the camera buffer.
        """
        index = render.frame_index
        captured = index in self._capture_times_s
        self._frames.add(
            index,
            FrameRecord(
                frame_index=index,
                capture_time_s=self._capture_times_s.get(index, index * self._frame_interval_s),
                render_time_s=now_s,
                captured=captured,
                source=render.source,
                result_frame_index=render.result_frame_index,
                shown_frame_index=render.shown_frame_index,
                detections=render.detections,
                tracking_s=self._tracking_s.get(index),
                declined=self._declined.get(index, False),
                undelivered=None if captured or delivered else True,
            ),
        )

    def offload_started(self, start: StartOffload, now_s: float, decision_s: float) -> None:
        """Open the row of an offload that was decided on, and that of its explanation."""
        decision = start.decision
        configuration, explanation = decision.configuration, decision.explanation
        height, width = start.frame.image.shape[:2]
        rows, cols = self._geometry.grid(width, height).shape
        regions = maps.region_map(decision)
        offload = OffloadRecord(
            offload_id=start.offload_id,
            frame_index=start.frame.index,
            status=OffloadStatus.LOST,
            reason="the run ended first",
            tau_d=configuration.tau_d,
            quality=configuration.quality,
            restoration_point=configuration.restoration_point,
            downsampled_regions=regions.count(maps.LOW),
            blank_regions=regions.count(maps.BLANK),
            cached_regions=regions.count(maps.CACHED),
            coarse_blocks=0 if decision.coarse_mask is None else int(decision.coarse_mask.sum()),
            coarse_quality=decision.coarse_quality,
            coarse_map=maps.block_map(decision.coarse_mask),
            region_map=regions,
            regions=rows * cols,
            second_round_of=start.second_round_of,
            frame_downsampling=decision.frame_downsampling,
            start_time_s=now_s,
            decision_s=decision_s,
            motion_s=self._motion_s,
            estimation_s=decision.estimation_s,
            optimization_s=decision.optimization_s,
            ahead_s=None if decision.estimates_age_frames is None else self._ahead_s,
            estimates_age_frames=decision.estimates_age_frames,
            **({} if explanation is None else _expected(explanation)),
        )
        self._offloads.add(start.offload_id, offload)
        if explanation is not None:
            row = DecisionRecord(offload_id=start.offload_id, frame_index=start.frame.index, explanation=explanation)
            self._decisions.add(start.offload_id, row)

    def encoded(self, offload_id: int, start_time_s: float, encode_s: float, payload_bytes: int) -> None:
        """Note when and how fast the offload's frame was compressed, and to what size."""
        self._offloads.update(offload_id, start_time_s=start_time_s, encode_s=encode_s, payload_bytes=payload_bytes)

    def answered(self, result: ResultArrived) -> None:
        """Note what an offload cost that has a result; each direction gets half of the round trip."""
        outcome = result.outcome
        self._offloads.update(
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
            asked_regions=0 if result.asked is None else int(result.asked.sum()),
            detections=result.detections,
        )

    def offload_ended(self, end: EndOffload) -> None:
        """Note how an offload ended."""
        self._lost += end.status is not OffloadStatus.OK
        self._offloads.update(end.offload_id, status=end.status, reason=end.reason)

    @property
    def lost_offloads(self) -> int:
        """Number of offloads that have ended without a result."""
        return self._lost

    @property
    def frame_count(self) -> int:
        """Number of frames that have been rendered."""
        return self._frames.added

    @property
    def offload_count(self) -> int:
        """Number of offloads that have been started."""
        return self._offloads.added

    def offloads(self) -> list[OffloadRecord]:
        """Return one row per offload, in the order of their start."""
        return self._offloads.rows()

    def decisions(self) -> list[DecisionRecord]:
        """Return one row per explained decision."""
        return self._decisions.rows()

    def frames(self) -> list[FrameRecord]:
        """Return one row per rendered frame."""
        return self._frames.rows()

    def recent(self) -> RecordRows:
        """The rows that are in memory: all of them, or the recent ones of a run that is saved as it plays."""
        return {FrameRecord: self.frames(), OffloadRecord: self.offloads(), DecisionRecord: self.decisions()}

    def take_changed(self) -> RecordRows:
        """The rows from the first one on that has changed since the last call; older ones are then forgotten.

        The last `KEPT_ROWS` of each kind stay, as reports about a frame or offload may come late.
        """
        oldest = next(reversed(self._capture_times_s), 0) - KEPT_ROWS
        for known in (self._capture_times_s, self._tracking_s, self._declined):
            for index in [index for index in known if index < oldest]:
                del known[index]
        return {
            FrameRecord: self._frames.take_changed(),
            OffloadRecord: self._offloads.take_changed(),
            DecisionRecord: self._decisions.take_changed(),
        }


def _expected(explanation: DecisionExplanation) -> dict[str, Any]:
    """Columns of an offload whose decision was explained."""
    chosen = explanation.chosen
    return {
        "decision_reason": explanation.reason,
        "estimated_payload_bytes": float(explanation.payload_bytes[chosen]),
        "estimated_e2e_latency_s": float(explanation.e2e_latency_s[chosen]),
        "estimated_f1": float(explanation.f1[chosen]),
    }
