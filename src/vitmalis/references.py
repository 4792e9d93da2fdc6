"""Reference detections: the full-resolution model's boxes on the raw frames, what F1 is measured against.

They are slow to compute and never change, so each is computed once and stored in chunks of frames counted from the
start of the video file: a longer run reuses what a shorter one left, and a killed computation loses one chunk at most.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np

from vitmalis.errors import UserError
from vitmalis.fingerprint import DETECTORS, code_fingerprint
from vitmalis.locks import file_lock
from vitmalis.paths import atomic_path, cache_dir, make_folder
from vitmalis.types import Detections, RgbImage
from vitmalis.untrusted_files import check_unfolded, damage_reported
from vitmalis.video.spec import VideoSpec, content_digest, open_video

CHUNK_FRAMES = 64
_BOX_ARRAYS, _MASKS = ("boxes_xyxy", "scores", "labels"), "masks"

Progress = Callable[[int, int], None]
"""Called with frames done and frames in all."""


class ReferenceDetector(Protocol):
    """What references are computed with: `vitmalis.detector.detector.Detector` is one."""

    @property
    def model_id(self) -> str:
        """Changes with anything the boxes depend on."""

    def detect(self, image: RgbImage) -> Detections:
        """Detect in one image, RGB uint8 (H, W, 3)."""


def compute_references(
    spec: VideoSpec,
    detector: ReferenceDetector,
    progress: Progress = lambda done, total: None,
    cache: Path | None = None,
    workers: int = 1,
) -> list[Detections]:
    """References of every frame of a clip, from the cache where possible.

    Runs that need the same ones at the same time wait for the first of them and read what it stored.

    Args:
        spec: a part of a video file.
        detector: full-resolution model.
        progress: called as frames are done, and at least once at the end.
        cache: folder to keep them in; None for the project's cache.
        workers: frames that are computed in parallel, each in a thread of its own. Give PyTorch one thread then:
            frames need not wait for each other; threads inside a frame do, which takes long on a busy machine.

    Raises:
        UserError: a live source (its frames cannot be seen twice), an unreadable video, a damaged cache file.
    """
    if spec.live:
        raise UserError(f"video '{spec.name}': a live source has no references; record it and give the file")
    folder = _folder(spec, detector, cache or cache_dir())
    with file_lock(folder / "lock"):
        return _Chunks(folder).complete(spec, detector, progress, workers)


class _Chunks:
    """The stored references of one video at one size by one model: frame in the file -> detections."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[int, Detections] = {}

    def complete(
        self, spec: VideoSpec, detector: ReferenceDetector, progress: Progress, workers: int
    ) -> list[Detections]:
        wanted = range(spec.start_frame, spec.start_frame + spec.frames)
        for chunk in range(wanted.start // CHUNK_FRAMES, (wanted.stop - 1) // CHUNK_FRAMES + 1):
            self._load(chunk)
        missing = [frame for frame in wanted if frame not in self._known]
        progress(spec.frames - len(missing), spec.frames)
        try:
            for done, (frame, detections) in enumerate(_detected(detector, _images(spec, missing), workers), 1):
                self._known[frame] = detections
                if (frame + 1) % CHUNK_FRAMES == 0:
                    self._store(frame // CHUNK_FRAMES)
                progress(spec.frames - len(missing) + done, spec.frames)
        finally:
            if missing:  # the last chunk, or the one that an interruption left unfinished
                computed = [frame for frame in missing if frame in self._known]
                for chunk in {frame // CHUNK_FRAMES for frame in computed[-1:]}:
                    self._store(chunk)
        return [self._known[frame] for frame in wanted]

    def _path(self, chunk: int) -> Path:
        return self._folder / f"{chunk * CHUNK_FRAMES:07d}.npz"

    def _load(self, chunk: int) -> None:
        path = self._path(chunk)
        if not path.exists():
            return
        with damage_reported(f"references {path}", "delete it to compute it again"):
            with zipfile.ZipFile(path) as archive:
                check_unfolded(path, sum(member.file_size for member in archive.infolist()))
            with np.load(path, allow_pickle=False) as stored:
                ends = np.cumsum(stored["counts"])[:-1]
                columns = [np.split(stored[name], ends) for name in (*_BOX_ARRAYS, _MASKS) if name in stored]
                frames = stored["frames"].tolist()
                if not (np.isfinite(stored["boxes_xyxy"]).all() and np.isfinite(stored["scores"]).all()):
                    raise ValueError("values that are not finite")
            detections = [Detections.of(*values) for values in zip(*columns, strict=True)]
            self._known.update(zip(frames, detections, strict=True))

    def _store(self, chunk: int) -> None:
        frames = sorted(frame for frame in self._known if frame // CHUNK_FRAMES == chunk)
        rows = [self._known[frame] for frame in frames]
        with atomic_path(self._path(chunk)) as temporary:
            np.savez_compressed(
                temporary,
                frames=np.array(frames),
                counts=np.array([len(row) for row in rows]),
                **_arrays(rows),
            )


def _arrays(rows: Sequence[Detections]) -> dict[str, Any]:
    """The arrays of all frames by name, one frame after another; masks only where there are any."""
    arrays = {name: np.concatenate([getattr(row, name) for row in rows]) for name in _BOX_ARRAYS}
    if any(row.masks is not None for row in rows):
        arrays[_MASKS] = np.concatenate([row.masks_or_boxes for row in rows])
    return arrays


def _folder(spec: VideoSpec, detector: ReferenceDetector, cache: Path) -> Path:
    """The folder of these references; the video counts by content and delivered size, not by name or date."""
    path = Path(spec.path)
    if not path.is_file():
        raise UserError(f"video '{spec.name}': there is no file '{path}'")
    key = {
        "video_sha256": content_digest(spec),
        "width": spec.width,
        "height": spec.height,
        "model_id": detector.model_id,
        "code": code_fingerprint(__name__, type(detector).__module__, DETECTORS),
    }
    text = json.dumps(key, indent=2)
    folder = cache / "references" / hashlib.sha256(text.encode()).hexdigest()[:20]
    make_folder(folder)
    about = folder / "about.json"
    if not about.exists():
        with atomic_path(about) as temporary:
            temporary.write_text(text + "\n")
    return folder


def _detected(
    detector: ReferenceDetector, images: Iterator[tuple[int, RgbImage]], workers: int
) -> Iterator[tuple[int, Detections]]:
    """Detections of each frame, in order; at most one image more than workers waits in memory."""
    with ThreadPoolExecutor(workers, "references") as pool:
        under_way: deque[tuple[int, Future[Detections]]] = deque()
        for frame, image in images:
            under_way.append((frame, pool.submit(detector.detect, image)))
            if len(under_way) > workers:
                first, future = under_way.popleft()
                yield first, future.result()
        for first, future in under_way:
            yield first, future.result()


def _images(spec: VideoSpec, frames: list[int]) -> Iterator[tuple[int, RgbImage]]:
    """The wanted frames of the file with their images, in one pass."""
    if not frames:
        return
    part = msgspec.structs.replace(spec, start_frame=frames[0], frames=frames[-1] - frames[0] + 1)
    wanted = set(frames)
    for frame, image in enumerate(open_video(part), frames[0]):
        if frame in wanted:
            yield frame, image
