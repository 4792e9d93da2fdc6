"""Rendering F1 by footage and clip, with clips weighted by frames, and after the first result.

The medians and means of the overview count each pair of clip and trace alike. That hides three things: a rendered scene
is not a street, a clip of 13 frames is not one of 600, and half of a short clip may lie before the first result.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from vitmalis_jobs.evaluation.study.page import Section
from vitmalis_jobs.evaluation.study.runs import FOOTAGE
from vitmalis_jobs.evaluation.study.statistics import by_pair, difference, frames_of_pairs, mean_by_frames
from vitmalis_jobs.evaluation.study.tables import BASELINE, marked

ALL = "all"
_F1, _AFTER_FIRST = "rendering_f1", "rendering_f1_after_first_result"
_WORDS = (
    "Real footage was filmed, rendered footage is a scene in place of a video that is not here. Means count each pair "
    "alike, or by its frames; after the first result, frames before a policy's own first result are left out."
)


def sections(runs: pd.DataFrame, policies: Sequence[str]) -> list[Section]:
    """The sections with F1 by footage, differences from `trackb2b` by footage, and F1 by clip."""
    return [
        Section("Real and rendered footage", [_WORDS], footage_table(runs, policies)),
        Section("Paired differences by footage", table=difference_table(runs, policies)),
        Section("Every clip", ["Mean rendering F1 over the traces of each clip."], clip_table(runs, policies)),
    ]


def footage_table(runs: pd.DataFrame, policies: Sequence[str]) -> pd.DataFrame:
    """One row for each kind of footage and policy: rendering F1 over complete pairs, averaged in several ways."""
    names, rows = marked(runs, policies), []
    for footage, own in _by_footage(runs):
        f1, after = by_pair(own, _F1), by_pair(own, _AFTER_FIRST)
        frames = frames_of_pairs(own, f1.index)
        facts = {"footage": footage, "clips": _clips(f1), "pairs": len(f1), "frames": int(frames.sum())}
        for policy in policies:
            row = facts | {"policy": names[policy], "rendering F1, median": f1[policy].median()}
            row |= {"mean": f1[policy].mean(), "mean by frames": mean_by_frames(f1[policy], frames)}
            row["after the first result, mean"] = after[policy].mean()
            row["after it, by frames"] = mean_by_frames(after[policy], frames_of_pairs(own, after.index))
            rows.append(row)
    return pd.DataFrame(rows)


def difference_table(runs: pd.DataFrame, policies: Sequence[str]) -> pd.DataFrame:
    """One row for each kind of footage and policy: its rendering F1 less that of `trackb2b`; empty without that."""
    if BASELINE not in policies:
        return pd.DataFrame()
    names, rows = marked(runs, policies), []
    for footage, own in _by_footage(runs):
        f1, after = by_pair(own, _F1), by_pair(own, _AFTER_FIRST)
        for policy in (policy for policy in policies if policy != BASELINE):
            found, gained = difference(f1, policy, BASELINE), f1[policy] - f1[BASELINE]
            row: dict[str, Any] = {"footage": footage, "policy": names[policy], "compared with": names[BASELINE]}
            row |= {"clips": found.clips, "pairs": found.pairs, "mean difference": found.mean}
            row |= {"from, over clips": found.clips_low, "to, over clips": found.clips_high}
            row["by frames"] = mean_by_frames(gained, frames_of_pairs(own, f1.index))
            row["after the first result"] = (after[policy] - after[BASELINE]).mean()
            rows.append(row)
    return pd.DataFrame(rows)


def clip_table(runs: pd.DataFrame, policies: Sequence[str]) -> pd.DataFrame:
    """One row for each clip: its footage, frames and traces, and the mean rendering F1 of each policy."""
    f1 = by_pair(runs, _F1)
    kinds, frames = runs.groupby("clip")["footage"].first(), frames_of_pairs(runs, f1.index).groupby("clip").max()
    rows = [
        {"clip": clip, "footage": kinds[str(clip)], "frames": int(frames[str(clip)]), "traces": len(pairs)}
        | {f"{name}, F1": pairs[policy].mean() for policy, name in marked(runs, policies).items()}
        for clip, pairs in f1.groupby(level="clip")
    ]
    return pd.DataFrame(rows)


def _by_footage(runs: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The runs of each kind of footage that has complete pairs of all policies, and first all where kinds differ."""
    kinds = [kind for kind in FOOTAGE if kind in set(runs["footage"])]
    if len(kinds) > 1:
        yield ALL, runs
    for kind in kinds:
        own = runs[runs["footage"] == kind]
        if own["policy"].nunique() == runs["policy"].nunique() and len(by_pair(own, _F1)):
            yield kind, own


def _clips(pairs: pd.DataFrame) -> int:
    return int(pairs.index.get_level_values("clip").nunique())
