"""Pairs of estimators: those in the package, or in a folder of `python -m training.estimators`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import msgspec

from vitmalis.errors import UserError
from vitmalis.estimation.estimator_files import decode_estimator
from vitmalis.estimation.estimators import KINDS, AnyEstimator
from vitmalis.estimation.latency import LatencyTables
from vitmalis.names import check_path_part
from vitmalis.regions.grid import RegionGrid

SHIPPED = Path(str(files("vitmalis.estimation"))) / "data"
"""The folder of the estimators in the package: one folder for each model and geometry of its decision regions."""


@dataclass(frozen=True, slots=True)
class EstimatorPair:
    """The two estimators of the paper's Performance Estimator.

    Attributes:
        size: estimates payload bytes (equation 1).
        accuracy: estimates F1 (equation 3).
    """

    size: AnyEstimator
    accuracy: AnyEstimator

    def grid(self, grid: RegionGrid) -> RegionGrid:
        """The decision regions that these estimators would have for frames of a grid's size."""
        window, factor = self.size.window or grid.window, self.size.downsampling_factor
        return RegionGrid(grid.width_px, grid.height_px, window, factor, grid.patch_px)

    def stand_in(self, tables: LatencyTables) -> str:
        """A note that these estimators learned from samples of another detector than the one of some latency tables.

        Empty if they learned from samples of that one.
        """
        others = sorted({e.model_id for e in (self.size, self.accuracy)} - {tables.model_id})
        if not others:
            return ""
        learned, used = (
            f"window {of.window}, downsampling factor {of.downsampling_factor}" for of in (self.size, tables)
        )
        name = f"estimators learned from samples of {self.size.model} {', '.join(others)}"
        if None not in (self.size.window, tables.window) and learned != used:
            return f"{name} ({learned}), used with {tables.model_id} ({used})"
        return f"{name}, used with {tables.model_id}"


def pair_files(
    model: str,
    kind: str,
    folder: str | Path | None = None,
    window: int | None = None,
    downsampling_factor: int = 2,
) -> tuple[Path, Path]:
    """Files of the size and the accuracy estimator that `load_pair` would read, whether or not they exist."""
    place = _nearest(model, kind, window, downsampling_factor) if folder is None else Path(folder)
    return place / f"size_{kind}.json", place / f"accuracy_{kind}.json"


def package_folder(estimator: AnyEstimator) -> Path:
    """The folder in the package for an estimator: that of its model and decision regions, or a new one."""
    model, window, factor = estimator.model, estimator.window, estimator.downsampling_factor
    check_path_part("model", model)
    own = (place for place, origin in _shipped(estimator.kind) if origin == _Origin(model, window, factor))
    name = model if window is None else f"{model}-w{window}-d{factor}"
    return next(own, SHIPPED / name)


def load_pair(
    model: str,
    kind: str = "mlp",
    folder: str | Path | None = None,
    window: int | None = None,
    downsampling_factor: int = 2,
) -> EstimatorPair:
    """Load both estimators of one kind.

    Args:
        model: name of the detector, such as "vitdet_tiny".
        kind: "mlp", "linear" or "mean".
        folder: of `python -m training.estimators`; None for those that come with the package.
        window: w of the decision regions, None for any. Where the package has no estimators for these regions, those of
            the nearest ones are taken; `EstimatorPair.stand_in` says so.
        downsampling_factor: d of the decision regions.

    Raises:
        UserError: unknown kind, none there for this model, or a damaged file.
    """
    check_path_part("policy.model", model)
    if kind not in KINDS:
        raise UserError(f"estimator kind '{kind}' is unknown; choose one of {', '.join(KINDS)}")
    sources = pair_files(model, kind, folder, window, downsampling_factor)
    place = sources[0].parent
    if missing := [source.name for source in sources if not source.is_file()]:
        options = _options(model, window, downsampling_factor)
        raise UserError(
            f"there are no estimators of model '{model}' ({', '.join(missing)} missing in {place}); make them with "
            f"`python -m profiling.samples {options}`, then `python -m training.estimators {options}`"
        )
    pair = EstimatorPair(
        decode_estimator(sources[0].read_bytes(), str(sources[0]), "payload_bytes"),
        decode_estimator(sources[1].read_bytes(), str(sources[1]), "f1"),
    )
    for estimator in (pair.size, pair.accuracy):
        if estimator.model != model:
            raise UserError(f"the estimators in {place} are for model '{estimator.model}', not '{model}'")
    return pair


def _options(model: str, window: int | None, downsampling_factor: int) -> str:
    """The options that make jobs use a model with some decision regions."""
    options = {"model": model, "model.window": window, "model.downsampling_factor": downsampling_factor}
    usual = {"model.window": None, "model.downsampling_factor": 2}
    return " ".join(f"{key}={value}" for key, value in options.items() if key not in usual or value != usual[key])


class _Origin(msgspec.Struct, frozen=True):
    """The detector that an estimator is for; the other fields of its file are not read."""

    model: str
    window: int | None = None
    downsampling_factor: int = 2


def _shipped(kind: str) -> Iterator[tuple[Path, _Origin]]:
    """The folders in the package with estimators of a kind, and whose they are."""
    for path in sorted(SHIPPED.glob(f"*/size_{kind}.json")):
        with suppress(msgspec.DecodeError):  # a damaged file does not hide those of other models
            yield path.parent, msgspec.json.decode(path.read_bytes(), type=_Origin)


def _nearest(model: str, kind: str, window: int | None, downsampling_factor: int) -> Path:
    """The folder in the package whose estimators are for this model and the most similar decision regions.

    The factor counts first, since what a region loses depends on it; then the side of the regions, in patches.
    """

    def distance(entry: tuple[Path, _Origin]) -> tuple[int, int]:
        own, factor = entry[1], entry[1].downsampling_factor
        sides = (window * downsampling_factor, own.window * factor) if window and own.window else (0, 0)
        return abs(factor - downsampling_factor), abs(sides[0] - sides[1])

    of_model = [entry for entry in _shipped(kind) if entry[1].model == model]
    return min(of_model, key=distance)[0] if of_model else SHIPPED / model
