"""The frames of virtual runs: decoded once for all runs of a clip, where they fit into memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.tiny_sweep import FPS, FRAMES, make_clip
from vitmalis.video.encode import write_clip
from vitmalis.video.spec import VideoSpec, open_video
from vitmalis_jobs.run import virtual


@pytest.fixture
def clip(tmp_path: Path) -> VideoSpec:
    make_clip(tmp_path / "clip.mp4")
    return VideoSpec("clip", str(tmp_path / "clip.mp4"), FPS, 2, FRAMES - 2, 320, 192)


def test_they_are_those_of_the_clip_and_decoded_once(clip: VideoSpec) -> None:
    first, again = list(virtual.clip_images(clip)), list(virtual.clip_images(clip))
    np.testing.assert_array_equal(first, list(open_video(clip)))
    assert all(one is other for one, other in zip(first, again, strict=True))
    with pytest.raises(ValueError, match="read-only"):
        again[0][0] = 0


def test_a_file_that_changed_is_decoded_anew(clip: VideoSpec) -> None:
    before = list(virtual.clip_images(clip))
    write_clip(Path(clip.path), [255 - image for image in open_video(clip)] + before[:2], FPS, (320, 192))
    np.testing.assert_array_equal(list(virtual.clip_images(clip)), list(open_video(clip)))


def test_a_clip_too_large_for_memory_is_decoded_for_each_run(clip: VideoSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtual, "MAX_DECODED_BYTES", 320 * 192 * 3 * (FRAMES - 2) - 1)
    first, second = list(virtual.clip_images(clip)), list(virtual.clip_images(clip))
    np.testing.assert_array_equal(first, second)
    assert first[0] is not second[0]
    assert first[0].flags.writeable
