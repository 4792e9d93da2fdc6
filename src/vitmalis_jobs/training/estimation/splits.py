"""Splits of the samples into training and evaluation: held-out parts, held-out clips and other domains."""

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
from vitmalis_jobs.training.estimation.regression_metrics import RegressionMetrics
from vitmalis_jobs.training.estimation.sample_set import EVAL, PROFILE, SampleSet

log = logging.getLogger(__name__)

Fit = Callable[[SampleSet], AnyEstimator]
"""Trains one kind of estimator on samples."""
Rows = NDArray[np.bool_]
"""Rows of a sample set, bool (n,)."""

HELD_OUT_PARTS = "held_out_parts"
"""Split whose estimators are exported."""
CORRECTED = "mlp_corrected"
"""Kind of the MLP with `SizeCorrection`, an extension that is not exported."""


@dataclass(frozen=True, eq=False)
class Split:
    """A division of the samples into training and evaluation.

    Attributes:
        name: of the split in metrics.
        title: of its table.
        folds: rows to train on and rows to evaluate on. The estimates of all folds are scored together.
    """

    name: str
    title: str
    folds: tuple[tuple[Rows, Rows], ...]


@dataclass(frozen=True, slots=True, eq=False)
class SplitEvaluation:
    """Truths and estimates (m,) of all folds of a split, and the metrics of the estimates."""

    metrics: RegressionMetrics
    truth: NDArray[np.float64]
    estimate: NDArray[np.float64]

    @classmethod
    def of(cls, truth: NDArray[np.float64], estimate: NDArray[np.float64]) -> SplitEvaluation:
        """Evaluate estimates (m,) against truths (m,)."""
        return cls(RegressionMetrics.of(truth, estimate), truth, estimate)


def make_splits(rows: SampleSet, walking: tuple[str, ...], other: tuple[str, ...]) -> list[Split]:
    """All splits that these samples allow; the log says which are not possible.

    Every split trains on profile parts and evaluates on eval parts.

    Args:
        rows: samples of both parts.
        walking: name patterns of the clips that the cross-domain check trains on.
        other: name patterns of the clips that it evaluates on.

    Raises:
        UserError: there are no samples of one of the parts.
    """
    profile, held_out = rows.parts == PROFILE, rows.parts == EVAL
    for part, mask in ((PROFILE, profile), (EVAL, held_out)):
        if not mask.any():
            raise UserError(f"the samples have none of the {part} parts; take some with `python -m profiling.samples`")
    on_foot, on_wheels = rows.matching_clips(walking), rows.matching_clips(other)
    clips = [rows.clips == clip for clip in np.unique(rows.clips[held_out])]
    wanted = [
        Split(HELD_OUT_PARTS, "Held-out parts", ((profile, held_out),)),
        Split("held_out_clips", "Held-out clips", tuple((profile & ~clip, held_out & clip) for clip in clips)),
        Split("walking_to_walking", "Walking to walking", ((profile & on_foot, held_out & on_foot),)),
        Split("walking_to_other", "Walking to driving and cycling", ((profile & on_foot, held_out & on_wheels),)),
        Split("all_to_other", "All to driving and cycling", ((profile, held_out & on_wheels),)),
    ]
    possible = [split for split in wanted if all(a.any() and b.any() for a, b in split.folds)]
    for split in wanted:
        if split not in possible:
            log.warning("no table '%s': there are no samples of such clips", split.title)
    return possible


def evaluate_split(rows: SampleSet, split: Split, fits: Mapping[str, Fit], seed: int) -> dict[str, SplitEvaluation]:
    """Train and evaluate every kind of estimator, and for the payload also the MLP with `SizeCorrection`.

    Args:
        rows: samples of both parts.
        split: what to train on and to evaluate on.
        fits: kind of estimator to its training.
        seed: draws the offloads that the correction is made from.

    Raises:
        UserError: the samples are too few: a configuration to evaluate is not among the training samples.
    """
    evaluation = [rows.select(held_out) for _, held_out in split.folds]
    for (training, _), held_out in zip(split.folds, evaluation, strict=True):
        check_covered(rows.select(training), held_out)
    truth = np.concatenate([held_out.values for held_out in evaluation])
    estimates = {
        kind: [fit(rows.select(training)).predict(rows.features[held_out]) for training, held_out in split.folds]
        for kind, fit in fits.items()
    }
    if rows.target == "payload_bytes":
        estimates[CORRECTED] = [corrected(*pair, seed) for pair in zip(evaluation, estimates["mlp"], strict=True)]
    return {kind: SplitEvaluation.of(truth, np.concatenate(parts)) for kind, parts in estimates.items()}


def corrected(rows: SampleSet, estimate: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Apply `SizeCorrection` to estimates (n,) as a device would: each clip's sampled frames are offloaded in turn.

    The configuration of each offload is drawn at random. Sampled frames are further apart than offloads are.
    """
    random, result = np.random.default_rng(seed), estimate.copy()
    for clip in np.unique(rows.clips):
        correction = SizeCorrection()
        for frame in np.unique(rows.frame_index[rows.clips == clip]):
            own = np.flatnonzero((rows.clips == clip) & (rows.frame_index == frame))
            result[own] *= correction.factor
            offloaded = random.choice(own)
            correction.observe(estimate[offloaded], rows.values[offloaded])
    return result
