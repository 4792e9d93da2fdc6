"""Robustness of a detector to scale: what it finds in a frame that is sent at half the size.

The policy TrackUD sends such frames while offloading is slow, and the server detects in them as they come. "F1 of a
halved frame" compares those detections with the model's own in the full-size frame. "F1 of an enlarged halved frame" is
the same with the pixels enlarged again before inference: where it is high and the other low, the pixels hold the
objects and the model does not know them at that size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from vitmalis.codec.jpeg import decode_jpeg, encode_jpeg
from vitmalis.matching import DEFAULT_RULE, Counts, MatchRule, match
from vitmalis.types import Detections, RgbImage
from vitmalis.video.spec import resize

FACTOR = 2
"""The paper's downsampling factor, along each axis."""
QUALITY = 95
"""JPEG quality of TrackUD."""

Detect = Callable[[RgbImage], Detections]
"""Detects objects in one image; boxes are in its pixels."""


def sent_at_half_size(image: RgbImage) -> RgbImage:
    """The image that a server decodes of a frame that TrackUD sends at half the size."""
    height, width = (-(-side // FACTOR) for side in image.shape[:2])
    return decode_jpeg(encode_jpeg(resize(image, width, height), QUALITY), height * width)


def detect_halved(detect: Detect, image: RgbImage) -> Detections:
    """Detect in a frame that is sent at half the size; boxes are in pixels of the full-size frame."""
    small = sent_at_half_size(image)
    return detect(small).scaled(image.shape[1] / small.shape[1], image.shape[0] / small.shape[0])


def detect_enlarged(detect: Detect, image: RgbImage) -> Detections:
    """Detect in a frame that is sent at half the size and enlarged to full size before inference."""
    height, width = image.shape[:2]
    return detect(resize(sent_at_half_size(image), width, height))


def own_box_f1(found: Iterable[Detections], own: Iterable[Detections], rule: MatchRule = DEFAULT_RULE) -> float | None:
    """F1 of detections, frame by frame, against the model's own in the full-size frames; None if those hold no box."""
    return sum((match(*pair, rule) for pair in zip(found, own, strict=True)), Counts()).f1
