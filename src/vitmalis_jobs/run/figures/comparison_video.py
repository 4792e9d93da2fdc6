"""The comparison video of a run: rendered boxes on the left, reference boxes on the right, frame by frame."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from vitmalis.client.view import View
from vitmalis.metrics import DEFAULT_RULE, MatchRule, match
from vitmalis.paths import atomic_path
from vitmalis.records import FrameRecord, OffloadRecord
from vitmalis.types import Detections, RgbImage
from vitmalis_jobs.run.figures.panels import Panel, side_by_side, with_boxes


class ComparisonVideo:
    """Draws the frames of a run twice, side by side: with the rendered boxes and with the reference boxes.

    Args:
        frames: the run's frame records, in the order of the clip.
        offloads: its offload records, for the latency of the result on screen.
        references: the reference of each frame index.
        fps: the clip's frame rate.
        rule: the score from which boxes are drawn, and how F1 is counted.
    """

    def __init__(
        self,
        frames: Sequence[FrameRecord],
        offloads: Sequence[OffloadRecord],
        references: Sequence[Detections],
        fps: float,
        rule: MatchRule = DEFAULT_RULE,
    ) -> None:
        self._frames = frames
        self._latency_s = {o.frame_index: o.e2e_latency_s for o in offloads if o.status == "ok"}
        self._references = references
        self._fps = fps
        self._rule = rule

    def draw(self, position: int, image: RgbImage) -> RgbImage:
        """One image of the video, RGB uint8 (H, W, 3), for the frame at a position of the records."""
        record = self._frames[position]
        reference = self._references[record.frame_index]
        f1 = match(record.detections, reference, self._rule).f1
        score = "nothing to find" if f1 is None else f"F1 {f1:.2f}"
        latency_s = self._latency_s.get(record.result_frame_index)
        return side_by_side(
            [
                self._panel(image, record.detections, "rendered", age_caption(record, latency_s, self._fps)),
                self._panel(image, reference, "reference", f"frame {record.frame_index}, {score}"),
            ]
        )

    def _panel(self, image: RgbImage, detections: Detections, title: str, caption: str) -> Panel:
        return Panel(with_boxes(image, detections.above(self._rule.score_threshold)), title, caption)

    def write(self, path: Path, images: Iterable[RgbImage]) -> None:
        """Write an H.264 video of the first frames of the run, as many as there are images."""
        import av
        from av.video.stream import VideoStream

        with atomic_path(path) as temporary, av.open(str(temporary), "w", options={"movflags": "+faststart"}) as out:
            stream: VideoStream | None = None
            for position, image in zip(range(len(self._frames)), images, strict=False):
                shown = self.draw(position, image)
                if stream is None:
                    rate = Fraction(self._fps).limit_denominator(1001)
                    stream = out.add_stream("libx264", rate=rate)
                    stream.height, stream.width = shown.shape[:2]
                    stream.pix_fmt = "yuv420p"
                    stream.options = {"crf": "24", "preset": "veryfast"}
                    stream.thread_count = 1
                out.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
            if stream is not None:
                out.mux(stream.encode())

    def typical(self) -> int:
        """Position of a typical frame: no fewer objects than the median frame, and an F1 near that of the whole run."""
        scores = [match(f.detections, self._references[f.frame_index], self._rule) for f in self._frames]
        sizes = np.array([count.tp + count.fn for count in scores])
        run_f1 = sum(scores[1:], scores[0]).f1_or_one
        distance = np.array([abs(count.f1_or_one - run_f1) for count in scores])
        distance[sizes < np.median(sizes)] = np.inf
        return int(np.argmin(distance))


def age_caption(frame: FrameRecord | View, latency_s: float | None, fps: float) -> str:
    """Where the boxes rendered on a frame come from, and how old they are.

    Args:
        frame: with the boxes.
        latency_s: E2E latency of their result; None if unknown.
        fps: frames per second.
    """
    if frame.shown_frame_index < 0:
        return "no result yet" if frame.captured else "no result yet, frame lost by the camera"
    age = frame.frame_index - frame.result_frame_index
    words = {"remote": "result of this frame", "tracker": "tracked", "stale": "stale"}[frame.source]
    caption = f"{words}, result {age} frames ({age / fps * 1e3:.0f} ms) old"
    if latency_s is not None:
        caption += f", took {latency_s * 1e3:.0f} ms"
    return caption if frame.captured else f"{caption}, frame lost by the camera"
