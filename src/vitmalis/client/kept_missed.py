"""Objects that one result misses: kept, tracked, until the next result has its say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vitmalis.matching import MatchRule, match_boxes
from vitmalis.types import Detections


def with_missed(found: Detections, known: Detections, score_threshold: float) -> Detections:
    """Add the known objects that a result misses to those that it found, each for one result at most.

    A detector misses an object in one frame and finds it again in the next, at times because its region was
    downsampled. A kept object has the score threshold as its score: it is shown, and not kept again.

    Args:
        found: objects of the result, with at least the threshold as their scores.
        known: objects of the result before, tracked to the frame of this one.
        score_threshold: least score of objects that are shown.
    """
    missed = known.select(match_boxes(found, known, MatchRule(score_threshold=0.0)).missed)
    kept = missed.select(missed.scores > score_threshold)
    return found.with_more(replace(kept, scores=np.full_like(kept.scores, score_threshold)))
