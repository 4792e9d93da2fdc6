"""Panels: frames with boxes next to each other, each under its title and caption, as in `rendered.mp4`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitmalis.instance_masks import pasted, window_in_frame
from vitmalis.types import COCO_CLASSES, BoolMask, Detections, RgbImage

if TYPE_CHECKING:
    from PIL import Image
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
_TINT = 0.45
"""Weight of its class's colour in the pixels of a mask."""
_OTHERS = ((0, 210, 190), (162, 217, 83), (120, 150, 255), (240, 150, 130))


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """An image, RGB uint8 (H, W, 3), with what is written over it."""

    image: RgbImage
    title: str
    caption: str


def side_by_side(panels: Sequence[Panel]) -> RgbImage:
    """Panels of one size next to each other, RGB uint8 (H, W, 3) with even sides."""
    from PIL import Image

    height, width = panels[0].image.shape[:2]
    pitch = width + _GAP_PX
    canvas = Image.new("RGB", (_even(len(panels) * pitch - _GAP_PX), _even(height + _HEADER_PX)), _BACKGROUND)
    for number, panel in enumerate(panels):
        canvas.paste(_header(width, panel), (number * pitch, 0))
        canvas.paste(Image.fromarray(panel.image), (number * pitch, _HEADER_PX))
    return np.asarray(canvas)


def colour_of(label: int) -> tuple[int, int, int]:
    """The colour of a class, RGB; the same in every image and video."""
    return _NAMED.get(COCO_CLASSES[label], _OTHERS[label % len(_OTHERS)])


def with_boxes(image: RgbImage, detections: Detections) -> RgbImage:
    """A copy of RGB uint8 (H, W, 3) with boxes, class names and scores drawn on it, and masks tinted and outlined."""
    from PIL import Image, ImageDraw

    drawn = Image.fromarray(_with_masks(image, detections))
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


def _with_masks(image: RgbImage, detections: Detections) -> RgbImage:
    """The image with masks tinted and outlined in the colours of their classes; the image itself without masks."""
    if detections.masks is None:
        return image
    tinted, size = image.copy(), image.shape[1::-1]
    for i in np.argsort(detections.scores):  # the highest score on top
        box, colour = detections.boxes_xyxy[i], np.array(colour_of(int(detections.labels[i])))
        left, top, right, bottom = window = window_in_frame(box, size)
        covered, pixels = pasted(detections.masks[i], box, window), tinted[top:bottom, left:right]
        pixels[covered] = (pixels[covered] * (1 - _TINT) + colour * _TINT).astype(np.uint8)
        pixels[_edge(covered)] = colour
    return tinted


def _edge(covered: BoolMask) -> BoolMask:
    """The pixels of an object next to one that is not, above, below, left or right of them."""
    around = np.pad(covered, 1)
    surrounded = around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
    return covered & ~surrounded


def save_png(path: Path, image: RgbImage) -> None:
    """Write RGB uint8 (H, W, 3) as PNG."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def _header(width: int, panel: Panel) -> Image.Image:
    """Title and caption, cut at the panel's width."""
    from PIL import Image, ImageDraw

    header = Image.new("RGB", (width, _HEADER_PX), _BACKGROUND)
    pen = ImageDraw.Draw(header)
    pen.text((12, 20), panel.title, font=_font(17, bold=True), fill=_TEXT, anchor="lm")
    offset = pen.textlength(panel.title, font=_font(17, bold=True))
    pen.text((24 + offset, 21), panel.caption, font=_font(14), fill=_DIM, anchor="lm")
    return header


@cache
def _font(size_px: int, bold: bool = False) -> FreeTypeFont:
    import matplotlib
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"  # matplotlib brings the fonts along
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size_px)


def _even(length_px: int) -> int:
    return length_px + length_px % 2  # yuv420p halves both sides
