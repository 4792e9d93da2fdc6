from __future__ import annotations

import multiprocessing
from dataclasses import replace
from pathlib import Path

import av
import msgspec
import numpy as np
import pytest

from vitmalis import references
from vitmalis.errors import UserError
from vitmalis.instance_masks import MASK_SIDE
from vitmalis.references import compute_references
from vitmalis.types import Detections, RgbImage
from vitmalis.video.spec import VideoSpec

FRAMES = 40


class Brightness:
    """Detects one box as wide as the image is bright, and none in dark ones; counts its calls."""

    def __init__(self, model_id: str = "bright", fail_after: int | None = None) -> None:
        self.model_id = model_id
        self.calls = 0
        self._fail_after = fail_after

    def detect(self, image: RgbImage) -> Detections:
        if self.calls == self._fail_after:
            raise KeyboardInterrupt
        self.calls += 1
        level = float(image.mean())
        return Detections.of([[0, 0, level, 5]], [0.9], [2]) if level > 40 else Detections.empty()


class Outline(Brightness):
    """Finds a mask in the box, as bright as the image."""

    def detect(self, image: RgbImage) -> Detections:
        found = super().detect(image)
        return replace(found, masks=np.full((len(found), MASK_SIDE, MASK_SIDE), int(image.mean()), np.uint8))


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VideoSpec:
    monkeypatch.setattr(references, "CHUNK_FRAMES", 16)
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(FRAMES):
            image = np.full((48, 64, 3), 20 + 5 * i, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(stream.encode())
    return VideoSpec("clip", str(path), fps=10, start_frame=5, frames=30, width=64, height=48)


def part(spec: VideoSpec, start_frame: int, frames: int) -> VideoSpec:
    return msgspec.structs.replace(spec, start_frame=start_frame, frames=frames)


def widths(rows: list[Detections]) -> list[float]:
    return [float(row.boxes_xyxy[0, 2]) if len(row) else 0.0 for row in rows]


def test_each_frame_gets_its_own_boxes(spec: VideoSpec, tmp_path: Path) -> None:
    rows = compute_references(spec, Brightness(), cache=tmp_path)
    assert len(rows) == 30
    expected = [20 + 5 * i if 20 + 5 * i > 41 else 0 for i in range(5, 35)]
    np.testing.assert_allclose(widths(rows), expected, atol=3)


def test_masks_are_stored_with_their_boxes(spec: VideoSpec, tmp_path: Path) -> None:
    computed = compute_references(spec, Outline("outline"), cache=tmp_path)
    detector = Outline("outline")
    stored = compute_references(spec, detector, cache=tmp_path)
    assert detector.calls == 0
    for one, other in zip(computed, stored, strict=True):
        np.testing.assert_array_equal(one.masks_or_boxes, other.masks_or_boxes)
    assert stored[-1].masks is not None
    assert int(stored[-1].masks[0, 0, 0]) == pytest.approx(widths(stored)[-1], abs=1)


@pytest.mark.parametrize("workers", [2, 5])
def test_frames_side_by_side_keep_their_order(spec: VideoSpec, tmp_path: Path, workers: int) -> None:
    rows = compute_references(spec, Brightness(), cache=tmp_path / "many", workers=workers)
    assert widths(rows) == widths(compute_references(spec, Brightness(), cache=tmp_path / "one"))


def test_the_second_time_nothing_is_computed(spec: VideoSpec, tmp_path: Path) -> None:
    first = compute_references(spec, Brightness(), cache=tmp_path)
    detector = Brightness()
    seen: list[tuple[int, int]] = []
    second = compute_references(spec, detector, lambda *done: seen.append(done), cache=tmp_path)
    assert detector.calls == 0
    assert seen == [(30, 30)]
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.boxes_xyxy, b.boxes_xyxy)
        np.testing.assert_array_equal(a.scores, b.scores)
        np.testing.assert_array_equal(a.labels, b.labels)


def test_a_longer_run_reuses_a_shorter_one(spec: VideoSpec, tmp_path: Path) -> None:
    compute_references(part(spec, 10, 12), Brightness(), cache=tmp_path)
    detector = Brightness()
    rows = compute_references(part(spec, 5, 30), detector, cache=tmp_path)
    assert detector.calls == 30 - 12
    assert widths(rows) == widths(compute_references(spec, Brightness(), cache=tmp_path / "fresh"))


def test_an_interrupted_computation_goes_on(spec: VideoSpec, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        compute_references(spec, Brightness(fail_after=20), cache=tmp_path)
    detector = Brightness()
    compute_references(spec, detector, cache=tmp_path)
    assert detector.calls == 10


def test_another_model_size_or_video_shares_nothing(spec: VideoSpec, tmp_path: Path) -> None:
    compute_references(spec, Brightness(), cache=tmp_path)
    small = msgspec.structs.replace(spec, width=32, height=24)
    for other, model_id in ((spec, "other"), (small, "bright")):
        detector = Brightness(model_id)
        compute_references(other, detector, cache=tmp_path)
        assert detector.calls == 30


def test_the_same_video_in_another_folder_is_the_same(spec: VideoSpec, tmp_path: Path) -> None:
    compute_references(spec, Brightness(), cache=tmp_path)
    moved = tmp_path / "moved.mp4"
    moved.write_bytes(Path(spec.path).read_bytes())
    detector = Brightness()
    compute_references(msgspec.structs.replace(spec, name="other", path=str(moved)), detector, cache=tmp_path)
    assert detector.calls == 0


def _count(spec: VideoSpec, cache: Path, calls: multiprocessing.Queue[int]) -> None:
    detector = Brightness()
    compute_references(spec, detector, cache=cache)
    calls.put(detector.calls)


def test_parallel_runs_compute_each_frame_once(spec: VideoSpec, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    calls = context.Queue()
    processes = [context.Process(target=_count, args=(spec, tmp_path, calls)) for _ in range(3)]
    for process in processes:
        process.start()
    counts = sorted(calls.get(timeout=60) for _ in processes)
    for process in processes:
        process.join()
    assert counts == [0, 0, 30]


def test_stored_values_that_are_not_finite_are_refused(spec: VideoSpec, tmp_path: Path) -> None:
    compute_references(spec, Brightness(), cache=tmp_path)
    path = sorted(tmp_path.glob("references/*/*.npz"))[0]
    with np.load(path) as stored:
        columns = dict(stored)
    columns["scores"][0] = np.nan
    np.savez_compressed(path, **columns)
    with pytest.raises(UserError, match="values that are not finite"):
        compute_references(spec, Brightness(), cache=tmp_path)


def test_a_damaged_file_is_named(spec: VideoSpec, tmp_path: Path) -> None:
    compute_references(spec, Brightness(), cache=tmp_path)
    damaged = sorted(tmp_path.glob("references/*/*.npz"))[0]
    damaged.write_bytes(b"not a zip")
    with pytest.raises(UserError, match=f"{damaged.name}: the file is damaged"):
        compute_references(spec, Brightness(), cache=tmp_path)


def test_live_and_missing_videos_are_refused(spec: VideoSpec, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a live source has no references"):
        compute_references(msgspec.structs.replace(spec, live=True), Brightness(), cache=tmp_path)
    with pytest.raises(UserError, match=r"there is no file 'gone\.mp4'"):
        compute_references(msgspec.structs.replace(spec, path="gone.mp4"), Brightness(), cache=tmp_path)


def test_a_small_file_that_unfolds_is_refused(spec: VideoSpec, tmp_path: Path) -> None:
    compute_references(spec, Brightness(), cache=tmp_path)
    path = sorted(tmp_path.rglob("*.npz"))[0]
    np.savez_compressed(path, frames=np.zeros(10_000_000, np.int64))
    assert path.stat().st_size < 100_000
    with pytest.raises(UserError, match=r"\.npz: the file is damaged .*76 MiB of memory.*delete it"):
        compute_references(spec, Brightness(), cache=tmp_path)
