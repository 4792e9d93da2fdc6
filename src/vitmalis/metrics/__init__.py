"""Metrics: pure functions over the per-frame and per-offload rows of a run."""

from vitmalis.matching import DEFAULT_RULE, Counts, Matches, MatchRule, match, match_boxes
from vitmalis.metrics.summary import f1_over_time, frame_counts, summarise

__all__ = [
    "DEFAULT_RULE",
    "Counts",
    "MatchRule",
    "Matches",
    "f1_over_time",
    "frame_counts",
    "match",
    "match_boxes",
    "summarise",
]
