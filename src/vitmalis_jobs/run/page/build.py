"""The document of a run page, computed from the run's records and from nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vitmalis.client.session import ClientSession
from vitmalis.explanation import DecisionExplanation
from vitmalis.metrics import Matches, MatchRule, match, match_boxes
from vitmalis.metrics.summary import STAGES
from vitmalis.network.traces import Trace
from vitmalis.records import DecisionRecord, FrameRecord, OffloadRecord
from vitmalis.regions import RegionGrid
from vitmalis.types import Detections
from vitmalis_jobs.run.figures.decision_plot import low_mask
from vitmalis_jobs.run.figures.mask_outlines import Outline, outline_of
from vitmalis_jobs.run.fingerprint import clip_digest
from vitmalis_jobs.run.page.document import (
    Box,
    Candidate,
    Capacity,
    Clip,
    Decision,
    Expectation,
    Frames,
    Offload,
    RunDocument,
)
from vitmalis_jobs.run.page.legend import legend
from vitmalis_jobs.run.page.sent_areas import coarse_areas, marked_regions
from vitmalis_jobs.run.records import RunRecords

_DECIMALS = 4
_PIXEL_DECIMALS = 1


@dataclass(frozen=True, slots=True)
class PlayedRun:
    """What the page of a run is made from.

    Attributes:
        session: clip, geometry, policy and name of the trace.
        records: of the run.
        references: of each frame; None where there are none.
        rule: how boxes are matched with references.
        trace: as it was played; None for a link without emulation, and where it is gone.
        metrics, stand_ins, facts: as `RunDocument` has them.
    """

    session: ClientSession
    records: RunRecords
    references: Sequence[Detections] | None
    rule: MatchRule
    trace: Trace | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    stand_ins: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def has_masks(self) -> bool:
        """Whether any object that was shown, or any of the references, has a mask."""
        shown = (frame.detections for frame in self.records.frames)
        return any(detections.masks is not None for detections in (*shown, *(self.references or ())))


def run_document(run: PlayedRun) -> RunDocument:
    """The document of a run's page."""
    video, records = run.session.video, run.records
    grid = run.session.geometry.grid(video.width, video.height)
    matches = [_matches(frame, run.references, run.rule) for frame in records.frames]
    labels = (label for pair in matches for boxes in (pair.shown, pair.reference) for label in boxes.labels.tolist())
    return RunDocument(
        policy=run.session.policy,
        trace=run.session.trace,
        clip=_clip(run.session, grid),
        facts=dict(run.facts),
        stand_ins=dict(run.stand_ins),
        metrics=dict(run.metrics),
        iou_threshold=run.rule.iou_threshold,
        score_threshold=run.rule.score_threshold,
        has_references=run.references is not None,
        legend=legend(labels),
        frames=_frames(records, matches, run.references is not None),
        offloads=_offloads(run, grid),
        capacity=None if run.trace is None else _capacity(run.trace, _last_moment_s(records)),
    )


def _clip(session: ClientSession, grid: RegionGrid) -> Clip:
    video = session.video
    return Clip(
        name=video.name,
        digest="" if video.live else clip_digest(video),
        width=video.width,
        height=video.height,
        fps=video.fps,
        regions=grid.region_boxes_px.reshape(-1, 4).tolist(),
        note=" ".join(filter(None, (video.stand_in, video.note))),
    )


def _matches(frame: FrameRecord, references: Sequence[Detections] | None, rule: MatchRule) -> Matches:
    reference = Detections.empty() if references is None else references[frame.frame_index]
    return match_boxes(frame.detections, reference, rule)


def _frames(records: RunRecords, matches: Sequence[Matches], scored: bool) -> Frames:
    frames = records.frames
    masks, outlines = _masks([pair.shown for pair in matches])
    return Frames(
        capture_s=[round(frame.capture_time_s, _DECIMALS) for frame in frames],
        captured=[frame.captured for frame in frames],
        source=[str(frame.source) for frame in frames],
        result_frame=[frame.result_frame_index for frame in frames],
        boxes=[_boxes(pair.shown, pair.found >= 0 if scored else None) for pair in matches],
        references=[_boxes(pair.reference, ~pair.missed) for pair in matches],
        f1=[_rounded(pair.counts.f1) if scored else None for pair in matches],
        declined=[frame.declined for frame in frames],
        masks=masks,
        outlines=outlines,
        result_offload=_result_offloads(frames, records.offloads),
    )


def _result_offloads(frames: Sequence[FrameRecord], offloads: Sequence[OffloadRecord]) -> list[int]:
    """The offload whose result the boxes of each frame stem from, -1 for none.

    A frame that was sent twice has two offloads: boxes are those of the last that had a result when they were shown.
    """
    rounds: dict[int, list[OffloadRecord]] = {}
    for offload in offloads:
        if offload.status == "ok":
            rounds.setdefault(offload.frame_index, []).append(offload)
    found = []
    for frame in frames:
        own = rounds.get(frame.result_frame_index, [])
        arrived = [each for each in own if each.start_time_s + (each.e2e_latency_s or 0.0) <= frame.render_time_s]
        found.append(next((each.offload_id for each in (*arrived[::-1], *own)), -1))
    return found


def _masks(shown: Sequence[Detections]) -> tuple[list[list[int]], list[Outline]]:
    """The number of each object's mask, by frames, and the outlines of these masks; nothing without any."""
    if all(detections.masks is None for detections in shown):
        return [], []
    numbers: dict[bytes, int] = {}
    outlines: list[Outline] = []
    for mask in (mask for detections in shown for mask in detections.masks_or_boxes):
        if numbers.setdefault(mask.tobytes(), len(outlines)) == len(outlines):
            outlines.append(outline_of(mask))
    return [[numbers[mask.tobytes()] for mask in detections.masks_or_boxes] for detections in shown], outlines


def _boxes(detections: Detections, matched: NDArray[np.bool_] | None) -> list[Box]:
    flags = [None] * len(detections) if matched is None else matched.tolist()
    sides = np.round(detections.boxes_xyxy.astype(np.float64), _PIXEL_DECIMALS).tolist()
    scores = np.round(detections.scores.astype(np.float64), _DECIMALS).tolist()
    labels = detections.labels.tolist()
    return [Box(*box, *rest) for box, *rest in zip(sides, scores, labels, flags, strict=True)]


def _offloads(run: PlayedRun, grid: RegionGrid) -> list[Offload]:
    decisions = {decision.offload_id: decision for decision in run.records.decisions}
    return [_offload(offload, decisions.get(offload.offload_id), run, grid) for offload in run.records.offloads]


def _offload(offload: OffloadRecord, decision: DecisionRecord | None, run: PlayedRun, grid: RegionGrid) -> Offload:
    why = decision.explanation if decision else None
    low, factor = _low_regions(offload, decision, grid)
    return Offload(
        offload_id=offload.offload_id,
        frame=offload.frame_index,
        status=str(offload.status),
        lost_because=offload.reason,
        tau_d=offload.tau_d,
        quality=offload.quality,
        restoration_point=offload.restoration_point,
        low_regions=low,
        low_factor=factor,
        start_s=round(offload.start_time_s, _DECIMALS),
        stages_s=[_rounded(getattr(offload, stage)) for stage in STAGES],
        e2e_latency_s=_expectation(offload.estimated_e2e_latency_s or None, offload.e2e_latency_s),
        payload_bytes=_expectation(offload.estimated_payload_bytes or None, offload.payload_bytes),
        f1=_expectation(None if why and why.expects_reward else offload.estimated_f1, _inference_f1(offload, run)),
        uplink_mbps=_expectation(why.uplink_mbps if why else None, offload.uplink_mbps),
        decision=_decision(why, offload.estimates_age_frames) if why else None,
        marked_regions=marked_regions(offload.region_map),
        coarse_quality=offload.coarse_quality,
        coarse_areas=coarse_areas(offload, grid.width_px, grid.height_px),
        second_round_of=offload.second_round_of,
    )


def _low_regions(offload: OffloadRecord, decision: DecisionRecord | None, grid: RegionGrid) -> tuple[list[int], int]:
    """Regions that were sent at low resolution, and how much smaller along each axis."""
    if offload.frame_downsampling > 1:
        return list(range(grid.region_patches.size)), offload.frame_downsampling
    mask = low_mask(offload, decision, grid)
    return ([] if mask is None else np.flatnonzero(mask).tolist()), grid.factor


def _inference_f1(offload: OffloadRecord, run: PlayedRun) -> float | None:
    """F1 of the returned boxes on the offloaded frame; None without a result, and where there is nothing to find."""
    if offload.status != "ok" or run.references is None:
        return None
    return match(offload.detections, run.references[offload.frame_index], run.rule).f1


def _decision(why: DecisionExplanation, estimates_age_frames: int | None) -> Decision:
    columns = (why.tau_d, why.quality, why.restoration_point, why.payload_bytes, why.e2e_latency_s, why.f1)
    rows = zip(*(np.round(column, _DECIMALS).tolist() for column in columns), strict=True)
    return Decision(
        reason=why.reason,
        region_types=why.region_types.ravel().tolist(),
        frame_motion=round(why.frame_motion, _DECIMALS),
        tracked=len(why.tracked),
        frames_since_offload=why.frames_since_offload,
        retention=round(why.retention, _DECIMALS),
        rtt_s=round(why.rtt_s, _DECIMALS),
        candidates=[Candidate(*row) for row in rows],
        frontier=why.frontier.tolist(),
        knee=why.knee,
        chosen=why.chosen,
        cached_regions=[] if why.cached_regions is None else why.cached_regions.tolist(),
        estimates_age_frames=estimates_age_frames,
        expects_reward=why.expects_reward,
    )


def _capacity(trace: Trace, until_s: float) -> Capacity:
    """The rows of a trace up to a time, in which it may repeat; the last row ends the axis."""
    repeats = int(until_s // trace.duration_s) + 1
    time_s = (np.arange(repeats)[:, None] * trace.duration_s + trace.time_s).ravel()
    played = time_s <= until_s
    columns = (time_s, np.tile(trace.uplink_mbps, repeats), np.tile(trace.rtt_ms, repeats))
    return Capacity(*(np.round(column[played], _DECIMALS).tolist() for column in columns))


def _last_moment_s(records: RunRecords) -> float:
    """Time of the last frame, or of the last result that came after it."""
    return max(_moments(records), default=0.0)


def _moments(records: RunRecords) -> Iterable[float]:
    yield from (frame.capture_time_s for frame in records.frames[-1:])
    yield from (offload.start_time_s + (offload.e2e_latency_s or 0.0) for offload in records.offloads[-1:])


def _expectation(expected: float | None, actual: float | None) -> Expectation:
    return Expectation(_rounded(expected), _rounded(actual))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), _DECIMALS)
