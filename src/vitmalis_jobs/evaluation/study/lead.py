"""The first sentence of a report: what the study found, for someone who reads no further."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from vitmalis_jobs.evaluation.study.hindsight import FIXED
from vitmalis_jobs.evaluation.study.labels import counted, label
from vitmalis_jobs.evaluation.study.statistics import Difference, by_pair, difference
from vitmalis_jobs.evaluation.study.tables import BASELINE, OURS


def leading_sentence(runs: pd.DataFrame, policies: Sequence[str]) -> str:
    """Compare ViTMAlis with TrackB2B, or the best policy with the next where one of them is missing.

    A study with `fixed` also compares with that: what it gains as well is not gained by adapting.
    """
    table = by_pair(runs, "rendering_f1")
    best, *others = sorted(policies, key=lambda policy: -table[policy].median())
    if not others:
        return f"{label(best)} reaches a median rendering F1 of {table[best].median():.3f} over {_pairs(len(table))}."
    compared = (OURS, BASELINE) if {OURS, BASELINE} <= set(policies) else (best, others[0])
    sentence = _sentence(difference(table, *compared))
    if FIXED not in policies or FIXED in compared:
        return sentence
    return f"{sentence} {_sentence(difference(table, compared[0], FIXED))}"


def _sentence(found: Difference) -> str:
    direction = "gains" if found.mean >= 0 else "loses"
    start = f"{label(found.policy)} {direction} {abs(found.mean):.3f} rendering F1 against {label(found.baseline)}"
    if np.isnan(found.low):
        return f"{start} on {_pairs(found.pairs)}: too few to tell whether that holds for others."
    interval = f"95 % interval {found.low:+.3f} to {found.high:+.3f}"
    if not found.significant:
        return f"{start} over {_pairs(found.pairs)}, which may be chance ({interval} holds 0)."
    if found.verdict in ("higher", "lower"):
        return f"{start} over {_pairs(found.pairs)} ({interval})."
    return f"{start} over {_pairs(found.pairs)} ({interval}), but other clips may show otherwise."


def _pairs(number: int) -> str:
    return f"{counted(number, 'pair')} of clip and trace"
