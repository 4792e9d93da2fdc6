"""The share of a trace's capacity that small frames get, by hand and next to real footage."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from vitmalis.codec.jpeg import encode_jpeg
from vitmalis.network.traces import capacity_scale


@pytest.mark.parametrize(
    ("size", "scale"),
    [
        ((1920, 1080), 1.0),
        ((960, 540), 0.354),  # 0.5 ** 1.5
        ((810, 540), 0.354),  # of a 3:2 frame, which fits into 1080p as 1620x1080
        ((640, 360), 0.192),
        ((480, 270), 0.125),
        ((3840, 2160), 1.0),  # never faster than the trace
    ],
)
def test_by_hand(size: tuple[int, int], scale: float) -> None:
    assert capacity_scale(*size) == scale


def test_real_frames_of_half_the_side_have_as_many_bytes_as_the_rule_says(shared: Path) -> None:
    shares = []
    for name in ("drive_day", "drive_day_short", "indoor"):
        with av.open(str(shared / "data" / "clips" / f"{name}.mp4")) as video:
            frame = next(video.decode(video=0)).to_ndarray(format="rgb24")
        half = cv2.resize(frame, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        shares += [len(encode_jpeg(half, quality)) / len(encode_jpeg(frame, quality)) for quality in (70, 95)]
    assert np.median(shares) == pytest.approx(capacity_scale(960, 540), abs=0.02)
