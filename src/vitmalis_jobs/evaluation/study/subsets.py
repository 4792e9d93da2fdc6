"""Rendering F1 by kind of footage and of trace and by clip, with pairs weighted by frames, and after the first result.

The medians and means of the overview count each pair of clip and trace alike. That hides four things: a rendered scene
is not a street, a generated trace is not a measured one, a clip of 13 frames is not one of 600, and half of a short
clip may lie before the first result.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pandas as pd

from vitmalis_jobs.evaluation.study.page import Section
from vitmalis_jobs.evaluation.study.runs import FOOTAGE, TRACE_KINDS
from vitmalis_jobs.evaluation.study.statistics import (
    by_pair,
    difference,
    frames_of_pairs,
    mean_by_frames,
    results_by_pair,
)
from vitmalis_jobs.evaluation.study.tables import BASELINE, marked


class Partition(NamedTuple):
    """A way to part the runs of a study.

    Attributes:
        column: of the runs, with the kind of each.
        kinds: in the order of a table.
        title: of the column in tables.
    """

    column: str
    kinds: Sequence[str]
    title: str


BY_FOOTAGE = Partition("footage", FOOTAGE, "footage")
BY_TRACE = Partition("trace_kind", TRACE_KINDS, "kind of trace")
ALL = "all"
_F1, _AFTER_FIRST = "rendering_f1", "rendering_f1_after_first_result"
_FOOTAGE_WORDS = (
    "Real footage was filmed, rendered footage is a scene in place of a video that is not here. Means count each pair "
    "alike, or by its frames; after the first result, frames before a policy's own first result are left out."
)
_TRACE_WORDS = "Generated traces come from a model of measured ones (docs/traces.md); a file is a user's own."


def sections(runs: pd.DataFrame, policies: Sequence[str]) -> list[Section]:
    """The sections by footage and by clip, and by kind of trace where the study has several."""
    found = [
        Section("Real and rendered footage", [_FOOTAGE_WORDS], level_table(runs, policies, BY_FOOTAGE)),
        Section("Paired differences by footage", table=difference_table(runs, policies, BY_FOOTAGE)),
        Section("Every clip", ["Mean rendering F1 over the traces of each clip."], clip_table(runs, policies)),
    ]
    if runs["trace_kind"].nunique() > 1:
        levels, differences = (table(runs, policies, BY_TRACE) for table in (level_table, difference_table))
        found.append(Section("Generated and measured traces", [_TRACE_WORDS], levels))
        found.append(Section("Paired differences by kind of trace", table=differences))
    return found


def level_table(runs: pd.DataFrame, policies: Sequence[str], partition: Partition) -> pd.DataFrame:
    """One row for each kind and policy: rendering F1 over complete pairs, averaged in several ways."""
    names, rows = marked(runs, policies), []
    for kind, own in _parts(runs, partition):
        f1, after = by_pair(own, _F1), results_by_pair(own, _AFTER_FIRST)
        frames = frames_of_pairs(own, f1.index)
        facts: dict[str, Any] = {
            partition.title: kind,
            "clips": _clips(f1),
            "pairs": len(f1),
            "frames": int(frames.sum()),
        }
        for policy in policies:
            row = facts | {"policy": names[policy], "rendering F1, median": f1[policy].median()}
            row |= {"mean": f1[policy].mean(), "mean by frames": mean_by_frames(f1[policy], frames)}
            row["after the first result, mean"] = after[policy].mean()
            row["after it, by frames"] = mean_by_frames(after[policy], frames_of_pairs(own, after.index))
            rows.append(row)
    return pd.DataFrame(rows)


def difference_table(runs: pd.DataFrame, policies: Sequence[str], partition: Partition) -> pd.DataFrame:
    """One row for each kind and policy: its rendering F1 less that of `trackb2b`; empty without that."""
    if BASELINE not in policies:
        return pd.DataFrame()
    names, rows = marked(runs, policies), []
    for kind, own in _parts(runs, partition):
        f1, after = by_pair(own, _F1), results_by_pair(own, _AFTER_FIRST)
        for policy in (policy for policy in policies if policy != BASELINE):
            found, gained = difference(f1, policy, BASELINE), f1[policy] - f1[BASELINE]
            row: dict[str, Any] = {partition.title: kind, "policy": names[policy], "compared with": names[BASELINE]}
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


def _parts(runs: pd.DataFrame, partition: Partition) -> Iterator[tuple[str, pd.DataFrame]]:
    """The runs of each kind that has complete pairs of all policies, and first all where kinds differ."""
    kinds = [kind for kind in partition.kinds if kind in set(runs[partition.column])]
    if len(kinds) > 1:
        yield ALL, runs
    for kind in kinds:
        own = runs[runs[partition.column] == kind]
        if own["policy"].nunique() == runs["policy"].nunique() and len(by_pair(own, _F1)):
            yield kind, own


def _clips(pairs: pd.DataFrame) -> int:
    return int(pairs.index.get_level_values("clip").nunique())
