"""Estimators of payload size and accuracy (paper, equations 1 and 3; alternatives of Table II): one file format each.

An estimator is its file: a msgspec struct whose `kind` says which it is. Training is in
`vitmalis_jobs.training`; estimating needs NumPy only.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, Protocol

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from vitmalis.errors import UserError
from vitmalis.estimation.configuration_table import ConfigurationTable
from vitmalis.estimation.features import ACCURACY_FEATURES, SIZE_FEATURES

FloatArray = NDArray[np.float64]

VERSION = 2
"""Version of the file format; files of another version are refused."""

Activation = Literal["relu", "tanh"]
Target = Literal["payload_bytes", "f1"]
FEATURES: dict[Target, tuple[str, ...]] = {"payload_bytes": SIZE_FEATURES, "f1": ACCURACY_FEATURES}
"""The features that an estimator of a target may take."""
LIMITS: dict[Target, tuple[float, float]] = {"payload_bytes": (1.0, np.inf), "f1": (0.0, 1.0)}
"""Range that estimates are clipped to: a payload has at least one byte, an F1 lies in 0..1."""

_ACTIVATIONS: dict[Activation, Callable[..., object]] = {"relu": partial(np.maximum, 0), "tanh": np.tanh}


class Estimator(Protocol):
    """Estimates one target from feature rows."""

    @property
    def kind(self) -> str:
        """Kind of the estimator: mlp, linear or mean."""

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the columns that `predict` takes."""

    @property
    def target(self) -> Target:
        """The quantity that it estimates."""

    @property
    def model_id(self) -> str:
        """The detector whose samples it learned from."""

    def predict(self, features: ArrayLike) -> FloatArray:
        """Features (n, F) to estimates (n,): bytes, or F1 in 0..1."""

    def error(self, features: ArrayLike) -> FloatArray:
        """Features (n, F) to the errors of their estimates over a clip (n,), in the unit of the estimates."""


class _EstimatorFile(msgspec.Struct, kw_only=True, frozen=True, eq=False, tag_field="kind"):
    """Fields of every kind of estimator.

    Attributes:
        target: what is estimated.
        features: columns of the input, some or all of `FEATURES[target]`.
        model, model_id: the detector whose samples it learned from.
        window, downsampling_factor: w and d of its decision regions; older files do not say w (None), and have d = 2.
        errors: of the estimates of a clip's mean, by configuration, see `error`; None for estimators without.
        spreads: of single frames around their estimates, by configuration, see `spread`; None for estimators without.
        provenance: how it was made: data, seeds, scores; free form.
        version: of the file format.
    """

    target: Target
    features: tuple[str, ...]
    model: str
    model_id: str
    window: int | None = None
    downsampling_factor: int = 2
    errors: ConfigurationTable | None = None
    spreads: ConfigurationTable | None = None
    provenance: dict[str, Any] = {}
    version: int = VERSION

    @property
    def kind(self) -> str:
        """Kind of the estimator, the tag of its file."""
        return str(self.__struct_config__.tag)

    def predict(self, features: ArrayLike) -> FloatArray:
        """Estimate the target of each row.

        Args:
            features: (n, F), columns as in `features`.

        Returns:
            float64 (n,) within `LIMITS[target]`.

        Raises:
            ValueError: rows of another width.
            UserError: a configuration that an offline mean has never seen.
        """
        return np.clip(self._estimate(self._checked(features)), *LIMITS[self.target])

    def error(self, features: ArrayLike) -> FloatArray:
        """Say how far the estimates of rows are off in the mean over the frames of a clip that was not learned from.

        It is what no number of frames averages out: two configurations whose estimates differ by less are equal as
        far as the estimator knows. For the F1, it is the error of the difference to tau_d 0 and quality 95 of the
        same frame, as how difficult a frame is does not matter to the choice among its configurations.

        Args:
            features: (n, F), as for `predict`.

        Returns:
            float64 (n,), root mean square: F1, or bytes (a payload's is learned as a share of it). A configuration
            that was never profiled has the largest of all; 0 if the estimator does not say.

        Raises:
            ValueError: rows of another width.
        """
        return self._deviation(self.errors, features)

    def spread(self, features: ArrayLike) -> FloatArray:
        """Say how far single frames lie from the estimates of rows; otherwise as `error`."""
        return self._deviation(self.spreads, features)

    def _deviation(self, table: ConfigurationTable | None, features: ArrayLike) -> FloatArray:
        rows = self._checked(features)
        if table is None:
            return np.zeros(len(rows))
        values, found = table.find(rows, self.features)
        deviation = np.where(found, values, table.values.max())
        return deviation * self.predict(rows) if self.target == "payload_bytes" else deviation

    def _checked(self, features: ArrayLike) -> FloatArray:
        """Feature rows as float64 (n, F)."""
        rows = np.asarray(features, np.float64)
        if rows.ndim != 2 or rows.shape[1] != len(self.features):
            raise ValueError(f"features are {rows.shape}, this estimator takes (n, {len(self.features)})")
        return rows

    @abstractmethod
    def _estimate(self, rows: FloatArray) -> FloatArray:
        """Estimates (n,) of checked rows (n, F), not yet clipped."""


class MlpEstimator(_EstimatorFile, kw_only=True, frozen=True, eq=False, tag="mlp"):
    """A multilayer perceptron: standardised inputs, one output.

    Attributes:
        mean, scale: float64 (F,): an input enters as (x - mean) / scale.
        weights: per layer float32 (inputs, outputs); the last has one output.
        biases: per layer float32 (outputs,).
        output_mean, output_scale: the output leaves as y * scale + mean.
        output: what that is: the target itself, or its natural logarithm.
        activation: of the hidden layers. A monotone estimator has weights of fitting signs and tanh, since with ReLUs
            it could only be convex.

    Raises:
        ValueError: shapes do not fit, or a scale is not positive.
    """

    mean: np.ndarray
    scale: np.ndarray
    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]
    output_mean: float
    output_scale: float
    output: Literal["identity", "log"]
    activation: Activation = "relu"

    def __post_init__(self) -> None:
        width = len(self.features)
        if self.mean.shape != (width,) or self.scale.shape != (width,) or not (self.scale > 0).all():
            raise ValueError(f"mean and scale must be ({width},) and scales positive")
        if not self.weights or len(self.weights) != len(self.biases):
            raise ValueError(f"{len(self.weights)} weights and {len(self.biases)} biases: one of each per layer")
        for weight, bias in zip(self.weights, self.biases, strict=True):
            if weight.ndim != 2 or weight.shape[0] != width or bias.shape != (weight.shape[1],):
                raise ValueError(f"layer {weight.shape} with bias {bias.shape} does not take {width} inputs")
            width = weight.shape[1]
        if width != 1:
            raise ValueError(f"the last layer has {width} outputs, not 1")

    def _estimate(self, rows: FloatArray) -> FloatArray:
        hidden = ((rows - self.mean) / self.scale).astype(np.float32)
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            hidden = hidden @ weight
            hidden += bias
            if layer < last:
                _ACTIVATIONS[self.activation](hidden, out=hidden)
        value = hidden[:, 0].astype(np.float64) * self.output_scale + self.output_mean
        return np.exp(value) if self.output == "log" else value


class LinearEstimator(_EstimatorFile, kw_only=True, frozen=True, eq=False, tag="linear"):
    """Ordinary least squares on the same inputs.

    Attributes:
        coefficients: float64 (F,), per unit of each feature.
        intercept: estimate where all features are 0.

    Raises:
        ValueError: the number of coefficients does not fit.
    """

    coefficients: np.ndarray
    intercept: float

    def __post_init__(self) -> None:
        if self.coefficients.shape != (len(self.features),):
            raise ValueError(f"coefficients are {self.coefficients.shape}, not ({len(self.features)},)")

    def _estimate(self, rows: FloatArray) -> FloatArray:
        return rows @ self.coefficients + self.intercept


class OfflineMeanEstimator(_EstimatorFile, kw_only=True, frozen=True, eq=False, tag="mean"):
    """The mean over profiled frames for each configuration, the same for every frame.

    Raises:
        ValueError: the table has a key that is no feature.
    """

    means: ConfigurationTable

    def __post_init__(self) -> None:
        if missing := set(self.means.keys) - set(self.features):
            raise ValueError(f"keys {sorted(missing)} are not among the features")

    def _estimate(self, rows: FloatArray) -> FloatArray:
        values, found = self.means.find(rows, self.features)
        if not found.all():
            row = dict(zip(self.features, rows[~found][0], strict=True))
            name = ", ".join(f"{key}={row[key]:g}" for key in self.means.keys)
            raise UserError(f"offline mean of {self.target}: {name} was never profiled: profile it, or choose another")
        return values


AnyEstimator = MlpEstimator | LinearEstimator | OfflineMeanEstimator
KINDS = ("mlp", "linear", "mean")
