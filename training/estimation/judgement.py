"""Which samples are learned from and which are judged on: held-out parts, held-out clips, other domains."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.estimation.samples import EVAL, PROFILE, SampleSet
from training.estimation.scores import Scores
from vitmalis.errors import UserError
from vitmalis.estimation.estimators import AnyEstimator

log = logging.getLogger(__name__)

Fit = Callable[[SampleSet], AnyEstimator]
Rows = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Split:
    """A way to divide the samples.

    Attributes:
        name: of the split, as metrics call it.
        title: of it, as tables call it.
        folds: rows to learn from and rows to judge on, bool (n,) each. Estimates of all folds are judged together.
    """

    name: str
    title: str
    folds: tuple[tuple[Rows, Rows], ...]


HELD_OUT = "held_out_parts"


def splits(rows: SampleSet, walking: tuple[str, ...], other: tuple[str, ...]) -> list[Split]:
    """All that can be made of these samples; what cannot is told in the log.

    Every split learns from profile parts and judges on eval parts.

    Args:
        rows: samples of both parts.
        walking: name patterns of the clips that the cross-domain check learns from.
        other: name patterns of the clips that it judges on.

    Raises:
        UserError: there are no samples of one of the parts.
    """
    profile, held = rows.parts == PROFILE, rows.parts == EVAL
    for part, mask in ((PROFILE, profile), (EVAL, held)):
        if not mask.any():
            raise UserError(f"the samples have none of the {part} parts; take some with `python -m profiling.samples`")
    on_foot, elsewhere = rows.of_clips(walking), rows.of_clips(other)
    clips = [rows.clips == clip for clip in np.unique(rows.clips[held])]
    possible = [
        Split(HELD_OUT, "Held-out parts", ((profile, held),)),
        Split("held_out_clips", "Held-out clips", tuple((profile & ~clip, held & clip) for clip in clips)),
        Split("walking_to_walking", "Walking to walking", ((profile & on_foot, held & on_foot),)),
        Split("walking_to_other", "Walking to driving and cycling", ((profile & on_foot, held & elsewhere),)),
        Split("all_to_other", "All to driving and cycling", ((profile, held & elsewhere),)),
    ]
    made = [split for split in possible if all(a.any() and b.any() for a, b in split.folds)]
    for split in possible:
        if split not in made:
            log.warning("no table '%s': there are no samples of such clips", split.title)
    return made


def judge(rows: SampleSet, split: Split, fits: Mapping[str, Fit]) -> dict[str, tuple[Scores, NDArray, NDArray]]:
    """Learn and judge every kind of estimator: kind to scores, truths (m,) and estimates (m,) of all folds."""
    truth = np.concatenate([rows.values[held] for _, held in split.folds])
    judged = {}
    for kind, fit in fits.items():
        parts = [fit(rows.select(learned)).predict(rows.features[held]) for learned, held in split.folds]
        estimate = np.concatenate(parts)
        judged[kind] = Scores.of(truth, estimate), truth, estimate
    return judged
