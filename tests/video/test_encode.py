"""Encoding of prepared clips: the same images give the same file, whatever is in memory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from vitmalis.paths import file_sha256
from vitmalis.types import RgbImage
from vitmalis.video.encode import write_clip

PROJECT = Path(__file__).parents[2]
WIDTH, HEIGHT, FRAMES = 320, 192, 60


def shaken_images() -> Iterator[RgbImage]:
    """Views of a texture by a shaken camera with grain: x264 weighs the blocks of such images by those after them."""
    rng = np.random.default_rng(0)
    scene = cv2.GaussianBlur(rng.integers(0, 255, (HEIGHT + 8, WIDTH + 70, 3), dtype=np.uint8), (0, 0), 2)
    scene = scene.astype(np.float32) * 4 - 380
    for index in range(FRAMES):
        left, top = index + rng.integers(0, 8), rng.integers(0, 8)
        grain = rng.integers(-12, 13, (HEIGHT, WIDTH, 1))
        view = scene[top : top + HEIGHT, left : left + WIDTH] + grain
        yield np.clip(view, 0, 255).astype(np.uint8)


def test_the_same_images_give_the_same_file_whatever_is_in_memory(tmp_path: Path) -> None:
    """glibc fills memory that is allocated with the value of MALLOC_PERTURB_; x264's code for AVX-512 reads some."""
    paths = [tmp_path / f"{fill}.mp4" for fill in (0, 85, 255)]
    code = "import sys; from tests.video.test_encode import write; write(sys.argv[1])"
    for path in paths:
        environment = {**os.environ, "MALLOC_PERTURB_": path.stem}
        subprocess.run([sys.executable, "-c", code, str(path)], cwd=PROJECT, env=environment, check=True)
    assert len({file_sha256(path) for path in paths}) == 1


def write(path: str) -> None:
    """Write the images as a clip, in a process of its own."""
    assert write_clip(Path(path), shaken_images(), 16.0, (WIDTH, HEIGHT)) == FRAMES
