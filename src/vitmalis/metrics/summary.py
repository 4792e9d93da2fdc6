"""Summary metrics of a run, computed from its records and reference detections."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from vitmalis.explanation import REWARD_REASONS
from vitmalis.instance_masks import MASK_BYTES, masks_to_send
from vitmalis.matching import DEFAULT_RULE, Counts, MatchRule, match
from vitmalis.metrics.mask_quality import mask_metrics
from vitmalis.records import FrameRecord, OffloadRecord
from vitmalis.types import BoxSource, Detections, OffloadStatus

STAGES = ("encode_s", "uplink_s", "queue_s", "decode_s", "inference_s", "downlink_s")
"""Parts of an offload's end-to-end latency, in their order."""

_OVERHEADS = ("motion_s", "decision_s", "estimation_s", "optimization_s", "ahead_s")
_DURATIONS = (*_OVERHEADS, *STAGES, "transfer_s", "network_s", "rtt_s", "e2e_latency_s")


def frame_counts(
    frames: Sequence[FrameRecord], references: Sequence[Detections], rule: MatchRule = DEFAULT_RULE
) -> list[Counts]:
    """Match the boxes shown on each frame with its reference; `references[i]` is that of frame i."""
    return [match(frame.detections, references[frame.frame_index], rule) for frame in frames]


def summarise(
    frames: Sequence[FrameRecord],
    offloads: Sequence[OffloadRecord],
    references: Sequence[Detections] | None,
    rule: MatchRule = DEFAULT_RULE,
    frame_size: tuple[int, int] | None = None,
) -> dict[str, float]:
    """Compute all metrics of a run, by name; those without a value are left out.

    `undelivered_frames` are those of `lost_frames` whose images came too late; the client was too slow for the others.
    There is no F1 without references, nor where they hold no box. Rendering F1 counts all frames of the clip, also
    those before the first result and those lost by the camera, as a user sees them; `rendering_f1_after_first_result`
    counts those from the first one on that showed a result, since the start is a large part of a short clip. Inference
    F1 counts the frames whose result was returned. Where references have masks and the (width, height) of the frames is
    given, `rendering_mask_f1`, `rendering_mask_iou`, `rendering_mask_boundary_f1` and the same of inference are those
    of `mask_quality`.
    """
    returned = [offload for offload in offloads if offload.status == OffloadStatus.OK]
    summary = {
        "frames": float(len(frames)),
        "lost_frames": float(sum(not frame.captured for frame in frames)),
        "declined_frames": float(sum(frame.declined for frame in frames)),
        "offloads": float(len(offloads)),
        "lost_offloads": float(len(offloads) - len(returned)),
    }
    if undelivered := sum(bool(frame.undelivered) for frame in frames):
        summary["undelivered_frames"] = float(undelivered)
    if references is not None:
        summary |= _accuracy(frames, returned, references, rule)
        if frame_size is not None:
            summary |= _mask_accuracy(frames, returned, references, rule, frame_size)
    for name in _DURATIONS:
        summary |= _spread(name, (getattr(o, name) for o in returned))
    intervals = np.diff([o.frame_index for o in offloads if o.second_round_of < 0])
    return (
        summary
        | _spread("offload_interval_frames", intervals)
        | _spread("estimates_age_frames", (o.estimates_age_frames for o in returned))
        | _sizes(returned)
        | _mask_sizes(returned)
        | _estimates(returned)
        | _reasons(offloads)
        | _freshness(frames)
    )


def f1_over_time(
    frames: Sequence[FrameRecord],
    references: Sequence[Detections],
    window_s: float = 1.0,
    rule: MatchRule = DEFAULT_RULE,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute rendering F1 in consecutive windows: starts (s) and F1 of the windows that contain a frame.

    F1 is NaN in windows without a reference box.
    """
    if not frames:
        return np.empty(0), np.empty(0)
    counts = np.array([(c.tp, c.fp, c.fn) for c in frame_counts(frames, references, rule)])
    # A frame captured exactly at a window's start belongs to it, however its time is rounded.
    windows = np.floor(np.array([frame.capture_time_s for frame in frames]) / window_s + 1e-6).astype(int)
    indices, positions = np.unique(windows, return_inverse=True)
    sums = np.zeros((len(indices), 3), int)
    np.add.at(sums, positions, counts)
    values = [Counts(*map(int, row)).f1 for row in sums]
    return indices * window_s, np.array([np.nan if value is None else value for value in values])


def _total(counts: Iterable[Counts]) -> Counts:
    return sum(counts, Counts())


def _accuracy(
    frames: Sequence[FrameRecord], returned: Sequence[OffloadRecord], references: Sequence[Detections], rule: MatchRule
) -> dict[str, float]:
    shown = frame_counts(frames, references, rule)
    first = next((place for place, frame in enumerate(frames) if frame.result_frame_index >= 0), len(frames))
    rendering = _total(shown)
    inference = _total(match(o.detections, references[o.frame_index], rule) for o in returned)
    accuracy = {
        "rendering_f1": rendering.f1,
        "rendering_f1_after_first_result": _total(shown[first:]).f1,
        "rendering_precision": rendering.precision,
        "rendering_recall": rendering.recall,
        "inference_f1": inference.f1,
    }
    boxes = {name: value for name, value in accuracy.items() if value is not None}
    return boxes | _f1_bias(returned, references, rule)


def _f1_bias(returned: Sequence[OffloadRecord], references: Sequence[Detections], rule: MatchRule) -> dict[str, float]:
    """Compute by how much a policy's estimates of inference F1 are too high in the mean.

    A frame counts by its 2 TP + FP + FN, so that the mean of the actual values is the F1 of all boxes together. A
    single frame has too few boxes to say how far off one estimate is. Rewards that `bandit` expects do not count.
    """
    estimated = [o for o in returned if o.estimated_f1 is not None and o.decision_reason not in REWARD_REASONS]
    counts = [match(o.detections, references[o.frame_index], rule) for o in estimated]
    actual = _total(counts).f1
    if actual is None:
        return {}
    weights = [2 * c.tp + c.fp + c.fn for c in counts]
    return {"inference_f1_bias": float(np.average([o.estimated_f1 for o in estimated], weights=weights)) - actual}


def _mask_accuracy(
    frames: Sequence[FrameRecord],
    returned: Sequence[OffloadRecord],
    references: Sequence[Detections],
    rule: MatchRule,
    frame_size: tuple[int, int],
) -> dict[str, float]:
    """Quality of masks, where references have masks."""
    if all(reference.masks is None for reference in references):
        return {}
    rendered = ((frame.detections, references[frame.frame_index]) for frame in frames)
    inferred = ((offload.detections, references[offload.frame_index]) for offload in returned)
    return mask_metrics(rendered, rule, frame_size, "rendering") | mask_metrics(inferred, rule, frame_size, "inference")


def _spread(name: str, values: Iterable[float | None]) -> dict[str, float]:
    known = np.array([value for value in values if value is not None], float)
    if not len(known):
        return {}
    return {
        f"{name}_median": float(np.median(known)),
        f"{name}_p90": float(np.percentile(known, 90)),
        f"{name}_mean": float(known.mean()),
    }


def _median(name: str, values: Iterable[float | None]) -> dict[str, float]:
    return {key: value for key, value in _spread(name, values).items() if key.endswith("_median")}


def _sizes(returned: Sequence[OffloadRecord]) -> dict[str, float]:
    kib = (None if o.payload_bytes is None else o.payload_bytes / 1024 for o in returned)
    return _median("payload_kib", kib) | _median("uplink_mbps", (o.uplink_mbps for o in returned))


def _mask_sizes(returned: Sequence[OffloadRecord]) -> dict[str, float]:
    """Compute what masks add to the results, which take the downlink; nothing for results without masks."""
    found = (offload.detections.masks for offload in returned)
    return _median("masks_kib", (masks_to_send(masks) * MASK_BYTES / 1024 for masks in found if masks is not None))


def _estimates(returned: Sequence[OffloadRecord]) -> dict[str, float]:
    """Compute the absolute errors of a policy's estimates, in percent of the actual values.

    F1 is left out, as one frame's reference has too few objects: see `_f1_bias` for the mean over offloads, and Table
    II for the estimator. An estimate of 0 is none: `bandit` knows no cost of an arm before its first result.
    """
    errors: dict[str, float] = {}
    for name, expected, actual in (
        ("payload", "estimated_payload_bytes", "payload_bytes"),
        ("e2e_latency", "estimated_e2e_latency_s", "e2e_latency_s"),
    ):
        pairs = [(getattr(o, expected), getattr(o, actual)) for o in returned]
        percent = [100 * abs(e - a) / a for e, a in pairs if e and a]
        errors |= _spread(f"{name}_error_percent", percent)
    return errors


def _reasons(offloads: Sequence[OffloadRecord]) -> dict[str, float]:
    """Compute the share of the explained decisions that each reason decided, such as how often one was urgent."""
    reasons = Counter(offload.decision_reason for offload in offloads if offload.decision_reason is not None)
    return {f"share_decided_{reason}": count / reasons.total() for reason, count in sorted(reasons.items())}


def _freshness(frames: Sequence[FrameRecord]) -> dict[str, float]:
    """Compute where the shown boxes came from, and how old they were.

    Staleness is the distance from a frame to the one that its boxes were computed for; result age is the distance to
    the offloaded frame whose result they come from, tracked or not.
    """
    shown = [frame for frame in frames if frame.shown_frame_index >= 0]
    shares = {f"share_{source}": np.mean([f.source == source for f in frames]) for source in BoxSource if frames}
    return (
        {name: float(value) for name, value in shares.items()}
        | _median("staleness_frames", (f.frame_index - f.shown_frame_index for f in shown))
        | _median("result_age_frames", (f.frame_index - f.result_frame_index for f in shown))
        | _median("tracking_s", (f.tracking_s for f in frames))
    )
