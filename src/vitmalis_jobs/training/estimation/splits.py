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
HELD_OUT_CLIPS = "held_out_clips"
"""Split by which estimators know their errors."""
CORRECTED = "mlp_corrected"
"""Kind of the MLP with `SizeCorrection`, an extension that is not exported."""
PAPER_INPUTS = "mlp_paper"
"""Kind of the MLP of the F1 that takes the inputs of equation 3 alone, as a comparison that is not exported."""


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
    """Estimates of all folds of a split.

    Attributes:
        rows: the samples that are evaluated, m.
        estimate: of them (m,).
        relative: their `SampleSet.relative_estimate` (m,).
    """

    rows: SampleSet
    estimate: NDArray[np.float64]
    relative: NDArray[np.float64]

    def select(self, rows: Rows) -> SplitEvaluation:
        """The estimates of some of the rows."""
        return SplitEvaluation(self.rows.select(rows), self.estimate[rows], self.relative[rows])

    @property
    def metrics(self) -> RegressionMetrics:
        """Errors of the estimates."""
        return RegressionMetrics.of(self.rows.values, self.estimate, self.rows.weights)

    @property
    def relative_metrics(self) -> RegressionMetrics:
        """Errors of the differences between a frame's configurations and its reference."""
        return RegressionMetrics.of(self.rows.relative, self.relative, self.rows.weights)


def make_splits(rows: SampleSet, walking: tuple[str, ...], other: tuple[str, ...]) -> list[Split]:
    """All splits that these samples allow; the log says which are not possible.

    Every split trains on profile parts and evaluates on eval parts; held-out clips are evaluated on both of theirs.

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
    clips = [rows.clips == clip for clip in np.unique(rows.clips)]
    wanted = [
        Split(HELD_OUT_PARTS, "Held-out parts", ((profile, held_out),)),
        Split(HELD_OUT_CLIPS, "Held-out clips", tuple((profile & ~clip, clip) for clip in clips)),
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
    folds = [(rows.select(training), rows.select(held_out)) for training, held_out in split.folds]
    for training, held_out in folds:
        check_covered(training, held_out)
    evaluated = rows.select(np.concatenate([np.flatnonzero(held_out) for _, held_out in split.folds]))
    results = {}
    for kind, fit in fits.items():
        fitted = [(fit(training), held_out) for training, held_out in folds]
        estimates = [estimator.predict(held_out.inputs(estimator)) for estimator, held_out in fitted]
        relative = [held_out.relative_estimate(estimator) for estimator, held_out in fitted]
        results[kind] = SplitEvaluation(evaluated, np.concatenate(estimates), np.concatenate(relative))
    if rows.target == "payload_bytes":
        estimate = corrected(evaluated, results["mlp"].estimate, seed)
        results[CORRECTED] = SplitEvaluation(evaluated, estimate, estimate)
    return results


def corrected(rows: SampleSet, estimate: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Apply `SizeCorrection` to estimates (n,) as a device would: the sampled frames of each part of a clip are
    offloaded in turn.

    The configuration of each offload is drawn at random. Sampled frames are further apart than offloads are.
    """
    random, result = np.random.default_rng(seed), estimate.copy()
    for part in sorted(set(zip(rows.clips, rows.parts, strict=True))):
        correction = SizeCorrection()
        of_part = (rows.clips == part[0]) & (rows.parts == part[1])
        for frame in np.unique(rows.frame[of_part]):
            own = np.flatnonzero(rows.frame == frame)
            result[own] *= correction.factor
            offloaded = random.choice(own)
            correction.observe(estimate[offloaded], rows.values[offloaded])
    return result
