"""Which samples are learned from and which are judged on: held-out parts, held-out clips, other domains."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitmalis.errors import UserError
from vitmalis.estimation import SizeCorrection
from vitmalis.estimation.estimators import AnyEstimator
from vitmalis_jobs.training.estimation.baselines import check_covered
from vitmalis_jobs.training.estimation.samples import EVAL, PROFILE, SampleSet
from vitmalis_jobs.training.estimation.scores import Scores

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


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Truths and estimates (m,) of all folds of a split, and their scores."""

    scores: Scores
    truth: NDArray[np.float64]
    estimate: NDArray[np.float64]

    @classmethod
    def of(cls, truth: NDArray[np.float64], estimate: NDArray[np.float64]) -> Judged:
        """Compare."""
        return cls(Scores.of(truth, estimate), truth, estimate)


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


CORRECTED = "mlp_corrected"
"""Kind of the MLP with `SizeCorrection`: an extension that the files do not hold."""


def judge(rows: SampleSet, split: Split, fits: Mapping[str, Fit], seed: int) -> dict[str, Judged]:
    """Learn and judge every kind of estimator, and for the payload the MLP with the correction by the last payload.

    Args:
        rows: samples of both parts.
        split: what is learned from and judged on.
        fits: kind to what makes such an estimator.
        seed: draws the offloads that the correction learns from.

    Raises:
        UserError: the samples are too few: a configuration is judged on that was not learned from.
    """
    held_rows = [rows.select(held) for _, held in split.folds]
    for (learned, _), held in zip(split.folds, held_rows, strict=True):
        check_covered(rows.select(learned), held)
    truth = np.concatenate([held.values for held in held_rows])
    estimates = {
        kind: [fit(rows.select(learned)).predict(rows.features[held]) for learned, held in split.folds]
        for kind, fit in fits.items()
    }
    if rows.target == "payload_bytes":
        estimates[CORRECTED] = [corrected(*pair, seed) for pair in zip(held_rows, estimates["mlp"], strict=True)]
    return {kind: Judged.of(truth, np.concatenate(parts)) for kind, parts in estimates.items()}


def corrected(held: SampleSet, estimate: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Estimates (n,) with the factor that a device would have: each clip's sampled frames are offloaded in turn.

    With which configuration each is, is drawn at random. Sampled frames are further apart than offloads are.
    """
    random, result = np.random.default_rng(seed), estimate.copy()
    for clip in np.unique(held.clips):
        correction = SizeCorrection()
        for frame in np.unique(held.frame_index[held.clips == clip]):
            own = np.flatnonzero((held.clips == clip) & (held.frame_index == frame))
            result[own] *= correction.factor
            offloaded = random.choice(own)
            correction.observe(estimate[offloaded], held.values[offloaded])
    return result
