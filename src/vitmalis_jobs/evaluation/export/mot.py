"""MOTChallenge text: tracks of what the user saw, and of the references, for tools that compute MOTA, IDF1 or HOTA.

The format is that of https://motchallenge.net/instructions/, in which pixels count from 1. They have four decimals,
about what a float32 holds: with two, an overlap near 0.5 can fall on the other side.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitmalis.types import Detections
from vitmalis_jobs.evaluation.export.tracks import write_tracks
from vitmalis_jobs.run.page.build import PlayedRun


def write_mot(run: PlayedRun, folder: Path) -> list[Path]:
    """Write the tracks of a run's boxes; returns the paths of `write_tracks`."""
    return write_tracks(run, folder, _lines)


def _lines(frame: int, objects: Detections, ids: NDArray[np.int64], *, truth: bool) -> Iterator[str]:
    """Lines of frame, id, left, top, width, height; then 1, class and visibility of truth, or a result's score."""
    columns = (ids.tolist(), objects.boxes_xyxy.tolist(), objects.scores.tolist(), objects.labels.tolist())
    for number, (x1, y1, x2, y2), score, label in zip(*columns, strict=True):
        sides = ",".join(f"{side:.4f}" for side in (x1 + 1, y1 + 1, x2 - x1, y2 - y1))
        box = f"{frame},{number},{sides}"
        yield f"{box},1,{label + 1},1" if truth else f"{box},{score:.4f},-1,-1,-1"
