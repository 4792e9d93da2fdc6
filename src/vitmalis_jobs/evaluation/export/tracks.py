"""Files of tracks in the layout of MOTChallenge, for boxes (`mot`) and for masks (`mots`).

The layout is that of https://motchallenge.net/instructions/: a folder with `gt/gt.txt` and `seqinfo.ini`, and a file of
results; frames and ids count from 1. Neither boxes nor masks have identities of their own: ids are those of
`vitmalis_jobs.run.identity`, by which a run's own IDF1 and MOTA are computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vitmalis.paths import atomic_path
from vitmalis.types import Detections
from vitmalis_jobs.run.identity import linked
from vitmalis_jobs.run.page.build import PlayedRun

RESULTS, TRUTH, SEQUENCE = "results.txt", "gt/gt.txt", "seqinfo.ini"


class FrameLines(Protocol):
    """The lines of one frame in a file of tracks."""

    def __call__(self, frame: int, objects: Detections, ids: NDArray[np.int64], *, truth: bool) -> Iterator[str]:
        """Yield a line for each object.

        Args:
            frame: its number, from 1.
            objects: those that count.
            ids: of these objects, from 1.
            truth: whether they are references rather than results.
        """


def write_tracks(run: PlayedRun, folder: Path, lines: FrameLines) -> list[Path]:
    """Write the files of a run; returns their paths. Without references there is no `gt/gt.txt`."""
    frames = [frame.frame_index for frame in run.records.frames]
    shown = [frame.detections for frame in run.records.frames]
    files = {SEQUENCE: _sequence(run), RESULTS: _text(run, frames, shown, lines, truth=False)}
    if run.references is not None:
        files[TRUTH] = _text(run, frames, [run.references[frame] for frame in frames], lines, truth=True)
    for name, text in files.items():
        with atomic_path(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return [folder / name for name in files]


def _text(
    run: PlayedRun, frames: Sequence[int], detections: Sequence[Detections], lines: FrameLines, *, truth: bool
) -> str:
    counted = [each.above(run.rule.score_threshold) for each in detections]
    rows = zip(frames, counted, linked(counted), strict=True)
    found = (line for frame, objects, ids in rows for line in lines(frame + 1, objects, ids + 1, truth=truth))
    return "".join(f"{line}\n" for line in found)


def _sequence(run: PlayedRun) -> str:
    video = run.session.video
    lines = {
        "name": video.name,
        "frameRate": f"{video.fps:g}",
        "seqLength": len(run.records.frames),
        "imWidth": video.width,
        "imHeight": video.height,
    }
    return "[Sequence]\n" + "".join(f"{key}={value}\n" for key, value in lines.items())
