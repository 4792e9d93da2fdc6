"""Pairs of estimators: those in the package, or in a folder of `python -m training.estimators`."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from vitmalis.errors import UserError
from vitmalis.estimation.estimators import KINDS, AnyEstimator, decode_estimator


@dataclass(frozen=True, slots=True)
class EstimatorPair:
    """The two estimators of the paper's Performance Estimator.

    Attributes:
        size: estimates payload bytes (equation 1).
        accuracy: estimates F1 (equation 3).
    """

    size: AnyEstimator
    accuracy: AnyEstimator

    def stand_in(self, model_id: str) -> str:
        """A note that these estimators learned from samples of another detector; empty if they are of this one."""
        others = sorted({e.model_id for e in (self.size, self.accuracy)} - {model_id})
        if not others:
            return ""
        return f"estimators learned from samples of {self.size.model} {', '.join(others)}, used with {model_id}"


def pair_files(model: str, kind: str, folder: str | Path | None = None) -> tuple[Path, Path]:
    """Files of the size and the accuracy estimator that `load_pair` would read, whether or not they exist."""
    place = Path(str(files("vitmalis.estimation"))) / "data" / model if folder is None else Path(folder)
    return place / f"size_{kind}.json", place / f"accuracy_{kind}.json"


def load_pair(model: str, kind: str = "mlp", folder: str | Path | None = None) -> EstimatorPair:
    """Load both estimators of one kind.

    Args:
        model: name of the detector, such as "vitdet_tiny".
        kind: "mlp", "linear" or "mean".
        folder: of `python -m training.estimators`; None for those that come with the package.

    Raises:
        UserError: unknown kind, none there for this model, or a damaged file.
    """
    if kind not in KINDS:
        raise UserError(f"estimator kind '{kind}' is unknown; choose one of {', '.join(KINDS)}")
    sources = pair_files(model, kind, folder)
    place = sources[0].parent
    if missing := [source.name for source in sources if not source.is_file()]:
        raise UserError(
            f"there are no estimators of model '{model}' ({', '.join(missing)} missing in {place}); make them with "
            f"`python -m profiling.samples model={model}`, then `python -m training.estimators model={model}`"
        )
    pair = EstimatorPair(
        decode_estimator(sources[0].read_bytes(), str(sources[0]), "payload_bytes"),
        decode_estimator(sources[1].read_bytes(), str(sources[1]), "f1"),
    )
    for estimator in (pair.size, pair.accuracy):
        if estimator.model != model:
            raise UserError(f"the estimators in {place} are for model '{estimator.model}', not '{model}'")
    return pair
