"""Rendered training frames: a pool that worker processes render once, and that later runs find in the cache."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vitmalis.errors import UserError
from vitmalis.fingerprint import code_fingerprint, digest
from vitmalis_jobs.training.detection import rendered_scenes
from vitmalis_jobs.training.detection.config import RenderedOptions
from vitmalis_jobs.training.detection.labelled_clips import LabelledFrame
from vitmalis_jobs.training.detection.labels import IGNORE
from vitmalis_jobs.training.detection.rendered_scenes import (
    Scene,
    frame_path,
    is_written,
    objects_path,
    read_scene,
    write_scene,
)

log = logging.getLogger(__name__)

SceneFactory = Callable[[str, int], Scene]
"""Makes the scene of a profile and a seed; picklable where worker processes render."""
PROGRESS_S = 10.0
"""Time between two lines of the log while frames are rendered, s."""


@dataclass(frozen=True)
class RenderedFrame(LabelledFrame):
    """A rendered frame on disk with its targets, and with the object that each of its pixels shows.

    Attributes:
        numbers: of the targets in the map of objects.
    """

    numbers: tuple[int, ...]

    def objects(self) -> NDArray[np.uint8]:
        """The map of objects, uint8 (H, W): numbers of targets that are learned, 0 for all else.

        Raises:
            UserError: the map is gone.
        """
        path = objects_path(self.path)
        owners = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if owners is None:
            raise UserError(f"rendered frame '{path}' cannot be read: remove its folder to have it made again")
        learned = np.zeros(256, np.uint8)
        for number, label in zip(self.numbers, self.targets.labels, strict=True):
            learned[number] = 0 if label == IGNORE else number
        return learned[owners]


def rendered_frames(make: SceneFactory, options: RenderedOptions, cache: Path, workers: int) -> list[RenderedFrame]:
    """The pool: `frames_per_scene` frames of each profile's scenes, of which those not in `cache` are rendered now.

    Args:
        make: factory of scenes.
        options: which scenes.
        cache: folder for the frames; those of other code or other options lie next to them.
        workers: processes that render; 0 renders in this one.

    Raises:
        UserError: a table in the cache is damaged.
    """
    facts = [code_fingerprint(rendered_scenes.__name__), repr(make), options.frames_per_scene]
    pool = cache / f"rendered-{digest(facts)[:16]}"
    seeds = range(options.first_seed, options.first_seed + options.scenes)
    folders = {(profile, seed): pool / f"{profile}-{seed}" for seed in seeds for profile in options.profiles}
    missing = {key: folder for key, folder in folders.items() if not is_written(folder)}
    if missing:
        _render(make, missing, options.frames_per_scene, workers)
    return [
        RenderedFrame(frame_path(folder, number), number, frame.size, frame.targets(), tuple(frame.numbers))
        for folder in folders.values()
        for number, frame in enumerate(read_scene(folder))
    ]


def _render(make: SceneFactory, folders: dict[tuple[str, int], Path], frames: int, workers: int) -> None:
    """Render scenes into their folders, and log the progress."""
    log.info("rendering %d frames into %s", len(folders) * frames, next(iter(folders.values())).parent)
    began_s = logged_s = time.monotonic()
    for done, _ in enumerate(_written(make, folders, frames, workers), start=1):
        now_s = time.monotonic()
        if now_s - logged_s >= PROGRESS_S or done == len(folders):
            rate = done * frames / max(now_s - began_s, 1e-6)
            log.info("rendered %d of %d frames (%.1f a second)", done * frames, len(folders) * frames, rate)
            logged_s = now_s


def _written(make: SceneFactory, folders: dict[tuple[str, int], Path], frames: int, workers: int) -> Iterator[None]:
    """Write scenes in worker processes or in this one; yields after each."""
    if not workers:
        for key, folder in folders.items():
            _write(make, key, frames, folder)
            yield
        return
    context = multiprocessing.get_context("spawn")  # forking a process with threads may deadlock it
    with ProcessPoolExecutor(workers, context, _start_worker) as pool:
        try:
            written = [pool.submit(_write, make, key, frames, folder) for key, folder in folders.items()]
            yield from (future.result() for future in as_completed(written))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which lets scenes under way finish
    cv2.setNumThreads(1)


def _write(make: SceneFactory, key: tuple[str, int], frames: int, folder: Path) -> None:
    write_scene(make(*key), frames, folder)
