"""What a device would know at sampled frames of a clip: its motion analysis and its tracked boxes at that moment.

The part is played from its start, so that the motion analyzer's background is the one it has in a running client. The
tracker starts from the reference detections of an earlier frame, as old as a result typically is when the next frame is
offloaded, and carries them to the sampled frame as a client does.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np

from vitmalis.detector import BaseDetector
from vitmalis.regions.motion import Motion, MotionAnalyzer
from vitmalis.tracker import TrackerOptions, build_tracker
from vitmalis.types import Detections, RgbImage
from vitmalis.video.spec import VideoSpec, open_video

MomentKind = Literal["tracked", "on_policy"]

_GOLDEN_RATIO = (1 + 5**0.5) / 2


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """A sampled frame and what a device knows when it is captured.

    Attributes:
        frame_index: position in the part that is played, from 0.
        image: RGB uint8 (H, W, 3).
        motion: what moved in it.
        tracked: boxes of an earlier frame, tracked to this one.
        staleness_frames: age of those boxes.
        kind: "tracked" for references of an earlier frame as boxes, "on_policy" for those of a running client.
    """

    frame_index: int
    image: RgbImage
    motion: Motion
    tracked: Detections
    staleness_frames: int
    kind: MomentKind = "tracked"


def sampled_frames(spec: VideoSpec, count: int, warmup_s: float) -> list[int]:
    """Choose frames that are spread over a part; a larger count keeps those of a smaller one.

    They follow multiples of the golden ratio modulo 1, of which any number of first members is spread nearly evenly.

    Args:
        spec: the part.
        count: number of frames at most; a short part has fewer.
        warmup_s: left out at the start, where the motion analyzer knows nothing yet; at most half of the part.
    """
    first = min(round(warmup_s * spec.fps), spec.frames // 2)
    span = spec.frames - first
    positions = (first + int(span * (step / _GOLDEN_RATIO % 1)) for step in range(1, 64 * span + 1))
    distinct = dict.fromkeys(positions)
    return list(distinct)[:count]


def staleness(spec: VideoSpec, frame_index: int, limits_s: tuple[float, float], seed: int) -> int:
    """Age of the tracked boxes at a sampled frame, in frames: drawn from the limits, the same in every run."""
    key = f"{seed} {spec.name} {spec.start_frame} {frame_index}".encode()
    draws = np.random.default_rng(int.from_bytes(hashlib.sha256(key).digest()[:8]))
    return min(frame_index, max(1, round(draws.uniform(*limits_s) * spec.fps)))


def replay(
    spec: VideoSpec,
    stalenesses: dict[int, int],
    detector: BaseDetector,
    analyzer: MotionAnalyzer,
    tracker: TrackerOptions,
    score_threshold: float,
) -> Iterator[Moment]:
    """Play a part once and yield a moment at each wanted frame, in the order of frames.

    Args:
        spec: the part.
        stalenesses: the wanted frames, each with the age of its boxes in frames.
        detector: its boxes of the earlier frame stand for the result that the client had received.
        analyzer: a new one.
        tracker: options of the client's tracker.
        score_threshold: boxes below it are not shown, so they are not tracked.

    Raises:
        UserError: the video cannot be read.
    """
    if not stalenesses:
        return
    recent: deque[RgbImage] = deque(maxlen=max(stalenesses.values()) + 1)
    shortened = msgspec.structs.replace(spec, frames=max(stalenesses) + 1)
    for index, image in enumerate(open_video(shortened)):
        motion = analyzer.analyse(image)
        recent.append(image)
        if index in stalenesses:
            age = stalenesses[index]
            known = detector.detect(recent[-1 - age]).above(score_threshold)
            tracked = track_boxes(known, list(recent)[-1 - age :], tracker)
            yield Moment(index, image, motion, tracked, age)


def track_boxes(known: Detections, images: Sequence[RgbImage], options: TrackerOptions) -> Detections:
    """Track boxes of the first image through all the others."""
    tracker = build_tracker(options)
    first, *later = map(tracker.prepare, images)
    tracker.restart(first, known)
    return tracker.advance(later)
