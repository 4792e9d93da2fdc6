"""The threshold of policy=reducto, from clips of a few frames."""

from __future__ import annotations

import numpy as np

from vitmalis.matching import Counts
from vitmalis.tracker import TRACKERS
from vitmalis.types import Detections
from vitmalis_jobs.profiling.filtering import chosen_threshold, passed_frames, rows_of, shown_counts


def edges(*shares: float) -> list[np.ndarray]:
    """Edges of frames, of 100 pixels each: so many of them are set from the first one on."""
    return [np.arange(100) < 100 * share for share in shares]


def test_frames_pass_that_differ_from_the_last_that_passed() -> None:
    rising = edges(0.0, 0.02, 0.04, 0.06, 0.08, 0.1)
    assert passed_frames(rising, 0.0, fps=10) == [0, 1, 2, 3, 4, 5]
    assert passed_frames(rising, 0.03, fps=10) == [0, 2, 4]
    assert passed_frames(rising, 1.0, fps=10) == [0]
    assert passed_frames(rising, 1.0, fps=3) == [0, 3], "the second segment of 1 s begins"


def test_boxes_of_a_frame_that_passes_are_shown_until_the_next() -> None:
    still = [np.random.default_rng(0).integers(0, 256, (96, 160, 3), np.uint8)] * 4
    here, there = Detections.of([[20, 20, 60, 60]], [0.9], [0]), Detections.of([[100, 20, 140, 60]], [0.9], [0])
    references = [here, here, there, there]
    tracker = TRACKERS["lucas_kanade"]()
    assert shown_counts(tracker, still, references, [0]) == Counts(tp=2, fp=2, fn=2)
    assert shown_counts(tracker, still, references, [0, 3]) == Counts(tp=3, fp=1, fn=1)
    assert shown_counts(tracker, still, references, [0, 1, 2, 3]) == Counts(tp=4, fp=0, fn=0)


def test_the_largest_threshold_that_keeps_the_target_over_all_clips_is_chosen() -> None:
    clips = {
        "calm": (10, {0.0: (0, Counts(10, 0, 0)), 0.1: (8, Counts(10, 0, 0)), 0.2: (9, Counts(9, 1, 1))}),
        "wild": (30, {0.0: (2, Counts(30, 0, 0)), 0.1: (20, Counts(26, 4, 4)), 0.2: (27, Counts(15, 15, 15))}),
    }
    rows = rows_of(clips)
    overall = [row for row in rows if row["clip"] == "all"]
    assert [row["filtered_share"] for row in overall] == [0.05, 0.7, 0.9]
    assert [row["f1"] for row in overall] == [1.0, 0.9, 0.6]
    assert chosen_threshold(rows, 0.9) == 0.1
    assert chosen_threshold(rows, 0.95) == 0.0
    assert chosen_threshold(rows[:-3], 0.9) is None
