"""Stand-in clips as video files: rendered once, on two processes, and cached."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2

from vitmalis.fingerprint import code_fingerprint, digest
from vitmalis.locks import file_lock
from vitmalis.paths import file_sha256
from vitmalis.types import RgbImage
from vitmalis.video.encode import Progress, write_clip
from vitmalis.video.standin.scene import StreetScene

SIZE = (960, 540)
"""Size (width, height) of every stand-in clip in pixels."""
SEEDS = {"profile": 1001, "eval": 2002}
"""Seeds of the two parts, which are different streets; the detector is trained on other seeds."""
_PROCESSES = 2

_scene: StreetScene  # one per worker process


def render_clip(name: str, part: str, fps: float, frames: int, folder: Path, progress: Progress) -> Path:
    """Render the first `frames` frames of a stand-in, unless they are cached; return the path of the file.

    The name of the file contains a fingerprint of the renderer, so that a changed renderer makes new files.
    """
    path = folder / f"{name}-{part}-{frames}-{renderer_fingerprint()[:8]}.mp4"
    with file_lock(path.with_suffix(".lock")):
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
    """Render in a pool of processes, or, inside a worker process of joblib, in that worker itself.

    Children of such a worker cannot start, since they do not know its start method `loky`, and a pool would start new
    ones for ever.
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


def renderer_fingerprint() -> str:
    """Fingerprint of all that a rendered clip depends on besides its name, part and length."""
    return digest([code_fingerprint(__name__), file_sha256(Path(__file__).with_name("lanes.csv"))])
