"""MOTChallenge text: tracks of what the user saw, and of the references, for tools that compute MOTA, IDF1 or HOTA.

The format is that of https://motchallenge.net/instructions/: a folder with `gt/gt.txt` and `seqinfo.ini`, and a file of
results; frames, ids and pixels count from 1. Boxes have no identities of their own: ids are those of
`vitmalis_jobs.run.identity`, by which a run's own IDF1 and MOTA are computed. Pixels have four decimals, about what a
float32 holds: with two, an overlap near 0.5 can fall on the other side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from vitmalis.paths import atomic_path
from vitmalis.types import Detections
from vitmalis_jobs.run.identity import linked
from vitmalis_jobs.run.page.build import PlayedRun

RESULTS, TRUTH, SEQUENCE = "results.txt", "gt/gt.txt", "seqinfo.ini"


def write_mot(run: PlayedRun, folder: Path) -> list[Path]:
    """Write the files of a run; returns their paths. Without references there is no `gt/gt.txt`."""
    threshold = run.rule.score_threshold
    frames = [frame.frame_index for frame in run.records.frames]
    files = {
        SEQUENCE: _sequence(run),
        RESULTS: _rows([frame.detections.above(threshold) for frame in run.records.frames], frames, truth=False),
    }
    if run.references is not None:
        files[TRUTH] = _rows([run.references[frame].above(threshold) for frame in frames], frames, truth=True)
    for name, text in files.items():
        with atomic_path(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return [folder / name for name in files]


def _rows(detections: Sequence[Detections], frames: Sequence[int], *, truth: bool) -> str:
    return "".join(f"{row}\n" for row in _lines(detections, frames, truth))


def _lines(detections: Sequence[Detections], frames: Sequence[int], truth: bool) -> Iterator[str]:
    """Lines of frame, id, left, top, width, height; then 1, class and visibility of truth, or a result's score."""
    for frame, boxes, ids in zip(frames, detections, linked(detections), strict=True):
        columns = (ids.tolist(), boxes.boxes_xyxy.tolist(), boxes.scores.tolist(), boxes.labels.tolist())
        for number, (x1, y1, x2, y2), score, label in zip(*columns, strict=True):
            sides = ",".join(f"{side:.4f}" for side in (x1 + 1, y1 + 1, x2 - x1, y2 - y1))
            box = f"{frame + 1},{number + 1},{sides}"
            yield f"{box},1,{label + 1},1" if truth else f"{box},{score:.4f},-1,-1,-1"


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
