"""What the half-hour job computes from what it sees."""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from tests.evaluation.tiny_sweep import FPS, FRAMES, make_clip
from vitmalis_jobs.validation.soak import drift_frames, growth_mb, loop_clip


def test_a_clip_is_repeated_whole_until_it_is_long_enough(tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mp4")
    loop_clip(tmp_path / "clip.mp4", tmp_path / "long.mp4", seconds=2.5)
    with av.open(str(tmp_path / "clip.mp4")) as clip:
        once = [frame.to_ndarray(format="rgb24") for frame in clip.decode(video=0)]
    with av.open(str(tmp_path / "long.mp4")) as clip:
        frames = list(clip.decode(video=0))
    assert len(frames) == 3 * FRAMES
    assert [round(frame.time * FPS) for frame in frames] == list(range(3 * FRAMES))
    for index in (0, FRAMES, 3 * FRAMES - 1):
        assert (frames[index].to_ndarray(format="rgb24") == once[index % FRAMES]).all()


def test_growth_is_from_the_second_sixth_to_the_last() -> None:
    rows = [{"time_s": float(second), "client": 100.0 + (50 if second < 10 else second / 10)} for second in range(60)]
    assert growth_mb(rows, "client") == pytest.approx(4.0)  # what it was at first does not count


def test_drift_is_told_in_frames() -> None:
    indices = list(range(0, 200, 2))  # every other frame was lost
    assert drift_frames([index / 20 + 0.01 for index in indices], indices, 20.0) == pytest.approx(0.0)
    slow = [index / 20 * 1.001 for index in indices]
    assert drift_frames(slow, indices, 20.0) == pytest.approx(0.18, abs=0.01)
