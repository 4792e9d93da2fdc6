"""Encoding of prepared clips: near-lossless H.264."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path

import av

from vitmalis.paths import atomic_path
from vitmalis.types import RgbImage

Progress = Callable[[float, float, str], None]
"""Called while a clip is made with the work done, the total work, and a description."""

_OPTIONS = {"crf": "12", "preset": "veryfast", "threads": "1"}
"""With these of x264, the same images give the same file."""
if platform.machine() in ("x86_64", "AMD64"):
    # x264's macroblock tree reads memory that was never written, in its code for AVX-512 only. Code for SSSE3, which
    # every x86 processor since 2011 has, gives the same file as code for AVX2, as large and as fast.
    _OPTIONS["x264-params"] = "asm=SSSE3"


def write_clip(path: Path, images: Iterable[RgbImage], fps: float, size: tuple[int, int]) -> int:
    """Encode RGB images of `size` (width, height) at a constant rate; return their number. The file appears whole."""
    count = 0
    with atomic_path(path) as temporary, av.open(str(temporary.absolute()), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.options = dict(_OPTIONS)
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            count += 1
        container.mux(stream.encode())
    return count
