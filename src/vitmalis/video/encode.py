"""Encoding of prepared clips: near-lossless H.264."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path

import av

from vitmalis.paths import atomic_path
from vitmalis.types import RgbImage

Progress = Callable[[float, float, str], None]
"""Called while a clip is made with the work done, the total work, and a description."""


def write_clip(path: Path, images: Iterable[RgbImage], fps: float, size: tuple[int, int]) -> int:
    """Encode RGB images of `size` (width, height) at a constant rate; return their number. The file appears whole."""
    count = 0
    with atomic_path(path) as temporary, av.open(str(temporary.absolute()), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        # For the same file from the same images; yet files of long clips have differed (macroblock tree of x264).
        stream.options = {"crf": "12", "preset": "veryfast", "threads": "1"}
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            count += 1
        container.mux(stream.encode())
    return count
