"""What the runs of one process share: an object that is handed to every run, in place of global state."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from vitmalis.paths import file_sha256
from vitmalis.types import RgbImage
from vitmalis.video.spec import VideoSpec, open_video
from vitmalis_jobs.common.config import MlflowOptions, ModelOptions
from vitmalis_jobs.common.detectors import boxes_cache

if TYPE_CHECKING:
    from vitmalis.detector import BaseDetector
    from vitmalis.virtual.cache import InferenceCache
    from vitmalis_jobs.common.mlflow_store import Store

MAX_DECODED_BYTES = 1_000_000_000
"""A larger clip is decoded again for each run; 21 s of 960x540 at 30 FPS are smaller."""


class Resources:
    """The MLflow store, the detector, the inference cache and the decoded clip of a process.

    Each is opened when it is first asked for and kept for the next run, since the runs of a sweep mostly ask for the
    same one. Pickled (as launchers do with what they send to their workers) it becomes the one object of the worker.

    Attributes:
        busy_tables: files of latency tables that this process measured while the machine was busy.
    """

    def __init__(self) -> None:
        self.busy_tables: set[Path] = set()
        self._store = lru_cache(maxsize=4)(_open_store)
        self._detector = lru_cache(maxsize=1)(_load_detector)
        self._inference_cache = lru_cache(maxsize=1)(_open_inference_cache)
        self._decoded = lru_cache(maxsize=1)(_decode)

    def store(self, options: MlflowOptions) -> Store:
        """The MLflow store of these options; raises `UserError` if it cannot be opened."""
        # A relative address means another store in another folder.
        return self._store(options.tracking_uri, options.experiment, Path(options.artifact_dir), Path.cwd())

    def detector(self, model: ModelOptions) -> BaseDetector:
        """The detector of these options, for one torch thread; raises `UserError` if it cannot be loaded."""
        return self._detector(msgspec.json.encode(model))

    def inference_cache(self, model: ModelOptions, max_gb: float) -> InferenceCache:
        """The inference cache of this project for a model's device, at most so many gigabytes large."""
        return self._inference_cache(max_gb, boxes_cache(model) / "inference")

    def images(self, clip: VideoSpec) -> Iterator[RgbImage]:
        """Frames of a clip, RGB uint8 (H, W, 3), read-only; decoded once for runs that play the same one."""
        size_bytes = 3 * clip.width * clip.height * clip.frames
        if size_bytes > MAX_DECODED_BYTES:
            return open_video(clip)
        return iter(self._decoded(clip, file_sha256(Path(clip.path))))

    def __reduce__(self) -> tuple[Any, ...]:
        return worker_resources, ()


@cache
def worker_resources() -> Resources:
    """The resources of a launcher's worker process, which is handed one run after the other."""
    return Resources()


def _open_store(tracking_uri: str, experiment: str, artifact_dir: Path, _here: Path) -> Store:
    from vitmalis_jobs.common.mlflow_store import Store

    return Store(tracking_uri, experiment, artifact_dir)


def _load_detector(model_json: bytes) -> BaseDetector:
    import torch

    from vitmalis.detector import load_any_detector

    torch.set_num_threads(1)
    model = msgspec.json.decode(model_json, type=ModelOptions)
    return load_any_detector(model.name, **model.detector_options)


def _open_inference_cache(max_gb: float, folder: Path) -> InferenceCache:
    from vitmalis.virtual.cache import InferenceCache

    return InferenceCache(folder, round(max_gb * 1e9))


def _decode(clip: VideoSpec, _sha256: str) -> list[RgbImage]:
    """Decode a whole clip. The file's hash is part of the key, because the file may be another one by the next run."""
    images = list(open_video(clip))
    for image in images:
        image.flags.writeable = False
    return images
