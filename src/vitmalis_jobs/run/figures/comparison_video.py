"""The comparison video of a run: rendered boxes on the left, reference boxes on the right, frame by frame."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitmalis.metrics import DEFAULT_RULE, MatchRule, match
from vitmalis.paths import atomic_path
from vitmalis.records import FrameRecord, OffloadRecord
from vitmalis.types import COCO_CLASSES, Detections, RgbImage

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

_HEADER_PX = 40
_GAP_PX = 8
_BACKGROUND = (24, 26, 31)
_TEXT = (236, 238, 242)
_DIM = (160, 166, 178)
_NAMED = {
    "person": (255, 107, 107),
    "bicycle": (255, 214, 90),
    "car": (84, 200, 255),
    "motorcycle": (255, 159, 67),
    "bus": (120, 224, 143),
    "truck": (190, 140, 255),
    "traffic light": (255, 128, 202),
}
_OTHERS = ((0, 210, 190), (162, 217, 83), (120, 150, 255), (240, 150, 130))


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
        from PIL import Image, ImageDraw

        record = self._frames[position]
        reference = self._references[record.frame_index]
        height, width = image.shape[:2]
        size = (_even(2 * width + _GAP_PX), _even(height + _HEADER_PX))
        canvas = Image.new("RGB", size, _BACKGROUND)
        pen = ImageDraw.Draw(canvas)
        for x, detections in ((0, record.detections), (width + _GAP_PX, reference)):
            shown = with_boxes(image, detections.above(self._rule.score_threshold))
            canvas.paste(Image.fromarray(shown), (x, _HEADER_PX))
        f1 = match(record.detections, reference, self._rule).f1
        score = "nothing to find" if f1 is None else f"F1 {f1:.2f}"
        _header(pen, 0, "rendered", self._caption(record))
        _header(pen, width + _GAP_PX, "reference", f"frame {record.frame_index}, {score}")
        return np.asarray(canvas)

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

    def _caption(self, record: FrameRecord) -> str:
        if record.shown_frame_index < 0:
            return "no result yet" if record.captured else "no result yet, frame lost by the camera"
        age = record.frame_index - record.result_frame_index
        words = {"remote": "result of this frame", "tracker": "tracked", "stale": "stale"}[record.source]
        caption = f"{words}, result {age} frames ({age / self._fps * 1e3:.0f} ms) old"
        latency_s = self._latency_s.get(record.result_frame_index)
        if latency_s is not None:
            caption += f", took {latency_s * 1e3:.0f} ms"
        return caption if record.captured else f"{caption}, frame lost by the camera"


def save_png(path: Path, image: RgbImage) -> None:
    """Write RGB uint8 (H, W, 3) as PNG."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def colour_of(label: int) -> tuple[int, int, int]:
    """The colour of a class, RGB; the same in every image and video."""
    return _NAMED.get(COCO_CLASSES[label], _OTHERS[label % len(_OTHERS)])


def with_boxes(image: RgbImage, detections: Detections) -> RgbImage:
    """A copy of RGB uint8 (H, W, 3) with boxes, class names and scores drawn on it."""
    from PIL import Image, ImageDraw

    drawn = Image.fromarray(image)
    pen = ImageDraw.Draw(drawn)
    font = _font(12)
    for i in np.argsort(detections.scores):  # the highest score on top
        box = [float(v) for v in detections.boxes_xyxy[i]]
        if box[2] <= box[0] or box[3] <= box[1]:
            continue
        label = int(detections.labels[i])
        colour = colour_of(label)
        pen.rectangle(box, outline=colour, width=2)
        text = f"{COCO_CLASSES[label]} {detections.scores[i]:.2f}"
        left, _, right, bottom = pen.textbbox((0, 0), text, font=font)
        top = max(box[1] - bottom - 3, 0.0)
        pen.rectangle((box[0], top, box[0] + right - left + 6, top + bottom + 3), fill=colour)
        pen.text((box[0] + 3, top + 1), text, font=font, fill=_BACKGROUND)
    return np.array(drawn)


def _header(pen: ImageDraw, x: int, title: str, caption: str) -> None:
    pen.text((x + 12, 20), title, font=_font(17, bold=True), fill=_TEXT, anchor="lm")
    offset = pen.textlength(title, font=_font(17, bold=True))
    pen.text((x + 24 + offset, 21), caption, font=_font(14), fill=_DIM, anchor="lm")


@cache
def _font(size_px: int, bold: bool = False) -> FreeTypeFont:
    import matplotlib
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"  # matplotlib brings the fonts along
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size_px)


def _even(length_px: int) -> int:
    return length_px + length_px % 2  # yuv420p halves both sides
