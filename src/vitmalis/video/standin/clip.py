"""A stand-in as a video file: rendered once, on two processes, and kept."""

from __future__ import annotations

import hashlib
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
from filelock import FileLock

from vitmalis.types import RgbImage
from vitmalis.video.encode import write_clip
from vitmalis.video.market1906 import Progress
from vitmalis.video.standin.scene import StreetScene

SIZE = (960, 540)
"""Pixels (width, height) of every stand-in clip."""
SEEDS = {"profile": 1001, "eval": 2002}
"""The two parts are different streets; training draws its seeds elsewhere."""
_PROCESSES = 2

_scene: StreetScene  # one per worker process


def render_clip(name: str, part: str, fps: float, frames: int, folder: Path, progress: Progress) -> Path:
    """Render the first `frames` frames of a stand-in, unless that was done before; return the file.

    The file's name holds a digest of the renderer's source, so that a changed renderer makes new files.
    """
    path = folder / f"{name}-{part}-{frames}-{_renderer_digest()}.mp4"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.is_file():
            write_clip(path, _render(name, SEEDS[part], fps, frames, progress), fps, SIZE)
    return path


def _render(name: str, seed: int, fps: float, frames: int, progress: Progress) -> Iterator[RgbImage]:
    with _rendered(name, seed, fps, frames) as images:
        for index, image in enumerate(images):
            progress(index + 1, frames, f"rendering {name}")
            yield image


@contextmanager
def _rendered(name: str, seed: int, fps: float, frames: int) -> Iterator[Iterator[RgbImage]]:
    """On processes of its own; in a worker of joblib's launcher in that worker.

    Children of such a worker cannot start (they know no `loky`), and a pool would start one after the other for ever.
    """
    if multiprocessing.get_start_method() not in multiprocessing.get_all_start_methods():
        _start_worker(name, seed, fps)
        yield map(_render_frame, range(frames))
        return
    context = multiprocessing.get_context("spawn")  # forking a process with threads may deadlock it
    with context.Pool(_PROCESSES, _start_worker, (name, seed, fps)) as pool:
        yield pool.imap(_render_frame, range(frames), chunksize=4)


def _start_worker(name: str, seed: int, fps: float) -> None:
    global _scene
    cv2.setNumThreads(1)
    _scene = StreetScene(name, seed, *SIZE, fps=fps)


def _render_frame(index: int) -> RgbImage:
    image, _ = _scene.render(index)
    return image


def _renderer_digest() -> str:
    digest = hashlib.sha256()
    for source in sorted(path for path in Path(__file__).parent.iterdir() if path.suffix in (".py", ".csv")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:8]
