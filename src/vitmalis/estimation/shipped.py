"""Pairs of estimators: those in the package, or in a folder of `python -m training.estimators`."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

from vitmalis.errors import UserError
from vitmalis.estimation.estimators import KINDS, AnyEstimator, decode_estimator

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EstimatorPair:
    """What the paper's Performance Estimator predicts with.

    Attributes:
        size: estimates payload bytes (equation 1).
        accuracy: estimates F1 (equation 3).
    """

    size: AnyEstimator
    accuracy: AnyEstimator


def load_default(model: str, model_id: str, kind: str = "mlp") -> EstimatorPair:
    """Load the estimators that come with the package.

    Args:
        model: name of the detector, such as "vitdet_tiny".
        model_id: of the detector that is used; samples of another one give a warning in the log.
        kind: "mlp", "linear" or "mean".

    Raises:
        UserError: unknown kind, none shipped for this model, or a damaged file.
    """
    return load_pair(files("vitmalis.estimation") / "data" / model, model, model_id, kind)


def load_pair(folder: Traversable, model: str, model_id: str, kind: str = "mlp") -> EstimatorPair:
    """Load both estimators of one kind from `folder` (a `Path` will do); otherwise as `load_default`."""
    if kind not in KINDS:
        raise UserError(f"estimator kind '{kind}' is unknown; choose one of {', '.join(KINDS)}")
    sources = folder / f"size_{kind}.json", folder / f"accuracy_{kind}.json"
    if missing := [source.name for source in sources if not source.is_file()]:
        raise UserError(
            f"there are no estimators of model '{model}' ({', '.join(missing)} missing in {folder}); make them with "
            f"`python -m profiling.samples model={model}`, then `python -m training.estimators model={model}`"
        )
    pair = EstimatorPair(
        decode_estimator(sources[0].read_bytes(), str(sources[0]), "payload_bytes"),
        decode_estimator(sources[1].read_bytes(), str(sources[1]), "f1"),
    )
    for estimator in (pair.size, pair.accuracy):
        if estimator.model != model:
            raise UserError(f"the estimators in {folder} are for model '{estimator.model}', not '{model}'")
        if estimator.model_id != model_id:
            log.warning(
                "the %s estimator learned from samples of %s %s, but %s is used: run profiling.samples and "
                "training.estimators again", estimator.target, model, estimator.model_id, model_id,
            )  # fmt: skip
    return pair
