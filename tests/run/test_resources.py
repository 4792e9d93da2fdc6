"""Resources of a process: decoded frames are shared by the runs of a clip, where they fit into memory."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.tiny_sweep import FPS, FRAMES, make_clip
from vitmalis.video.encode import write_clip
from vitmalis.video.spec import VideoSpec, open_video
from vitmalis_jobs.run import resources as module
from vitmalis_jobs.run.resources import Resources, worker_resources


@pytest.fixture
def clip(tmp_path: Path) -> VideoSpec:
    make_clip(tmp_path / "clip.mp4")
    return VideoSpec("clip", str(tmp_path / "clip.mp4"), FPS, 2, FRAMES - 2, 320, 192)


def test_they_are_those_of_the_clip_and_decoded_once(clip: VideoSpec) -> None:
    resources = Resources()
    first, again = list(resources.images(clip)), list(resources.images(clip))
    np.testing.assert_array_equal(first, list(open_video(clip)))
    assert all(one is other for one, other in zip(first, again, strict=True))
    with pytest.raises(ValueError, match="read-only"):
        again[0][0] = 0


def test_a_file_that_changed_is_decoded_again(clip: VideoSpec) -> None:
    resources = Resources()
    before = list(resources.images(clip))
    write_clip(Path(clip.path), [255 - image for image in open_video(clip)] + before[:2], FPS, (320, 192))
    np.testing.assert_array_equal(list(resources.images(clip)), list(open_video(clip)))


def test_a_clip_too_large_for_memory_is_decoded_for_each_run(clip: VideoSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_DECODED_BYTES", 320 * 192 * 3 * (FRAMES - 2) - 1)
    resources = Resources()
    first, second = list(resources.images(clip)), list(resources.images(clip))
    np.testing.assert_array_equal(first, second)
    assert first[0] is not second[0]
    assert first[0].flags.writeable


def test_a_worker_process_shares_its_resources_between_the_runs_it_is_sent() -> None:
    sent = pickle.dumps(Resources())
    assert pickle.loads(sent) is pickle.loads(sent) is worker_resources()
