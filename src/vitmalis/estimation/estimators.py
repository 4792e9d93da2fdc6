"""Estimators of payload size and accuracy (paper, equations 1 and 3; alternatives of Table II): one file format each.

An estimator is its file: a msgspec struct whose `kind` says which it is. Training is in
`vitmalis_jobs.training`; estimating needs NumPy only.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from vitmalis.errors import UserError
from vitmalis.estimation.configuration_table import ConfigurationTable
from vitmalis.estimation.features import ACCURACY_FEATURES, SIZE_FEATURES
from vitmalis.paths import atomic_path
from vitmalis.untrusted_files import decode_json

FloatArray = NDArray[np.float64]

VERSION = 1
"""Version of the file format; files of another version are refused."""

Target = Literal["payload_bytes", "f1"]
FEATURES: dict[Target, tuple[str, ...]] = {"payload_bytes": SIZE_FEATURES, "f1": ACCURACY_FEATURES}
LIMITS: dict[Target, tuple[float, float]] = {"payload_bytes": (1.0, np.inf), "f1": (0.0, 1.0)}
"""Range that estimates are clipped to: a payload has at least one byte, an F1 lies in 0..1."""

_MAKE_AGAIN = "make it again with `python -m training.estimators`"


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
        """Features (n, F) to the expected errors of their estimates (n,), in the unit of the estimates."""


class _EstimatorFile(msgspec.Struct, kw_only=True, frozen=True, eq=False, dict=True, tag_field="kind"):
    """Fields of every kind of estimator.

    Attributes:
        target: what is estimated.
        features: columns of the input, exactly those of `FEATURES[target]`.
        model, model_id: the detector whose samples it learned from.
        window, downsampling_factor: w and d of its decision regions; older files do not say w (None), and have d = 2.
        errors: root mean square errors of the estimates, by configuration; None for files that do not say.
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
        """Say how wrong the estimates of rows are.

        Configurations of one frame whose estimates differ by less are equal as far as anybody knows.

        Args:
            features: (n, F), as for `predict`.

        Returns:
            float64 (n,), standard deviation of estimates around truths: bytes, or F1. For the F1, this is the error of
            the difference to another configuration of the frame, as how difficult the frame is does not matter to a
            choice. A configuration that was never profiled has the largest error of all; 0 if the file does not say.

        Raises:
            ValueError: rows of another width.
        """
        rows = self._checked(features)
        if self.errors is None:
            return np.zeros(len(rows))
        values, found = self.errors.find(rows, self.features)
        return np.where(found, values, self.errors.values.max())

    def _checked(self, features: ArrayLike) -> FloatArray:
        """Feature rows as float64 (n, F)."""
        rows = np.asarray(features, np.float64)
        if rows.ndim != 2 or rows.shape[1] != len(self.features):
            raise ValueError(f"features are {rows.shape}, this estimator takes (n, {len(self.features)})")
        return rows

    @abstractmethod
    def _estimate(self, rows: FloatArray) -> FloatArray:
        """Estimates (n,) of checked rows (n, F), not yet clipped."""


class MlpEstimator(_EstimatorFile, kw_only=True, frozen=True, eq=False, dict=True, tag="mlp"):
    """A multilayer perceptron with ReLUs: standardised inputs, one output.

    Attributes:
        mean, scale: float64 (F,): an input enters as (x - mean) / scale.
        weights: per layer float32 (inputs, outputs); the last has one output.
        biases: per layer float32 (outputs,).
        output_mean, output_scale: the output leaves as y * scale + mean.
        output: what that is: the target itself, or its natural logarithm.
    """

    mean: np.ndarray
    scale: np.ndarray
    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]
    output_mean: float
    output_scale: float
    output: Literal["identity", "log"]

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
                np.maximum(hidden, 0, out=hidden)
        value = hidden[:, 0].astype(np.float64) * self.output_scale + self.output_mean
        return np.exp(value) if self.output == "log" else value


class LinearEstimator(_EstimatorFile, kw_only=True, frozen=True, eq=False, dict=True, tag="linear"):
    """Ordinary least squares on the same inputs.

    Attributes:
        coefficients: float64 (F,), per unit of each feature.
        intercept: estimate where all features are 0.
    """

    coefficients: np.ndarray
    intercept: float

    def __post_init__(self) -> None:
        if self.coefficients.shape != (len(self.features),):
            raise ValueError(f"coefficients are {self.coefficients.shape}, not ({len(self.features)},)")

    def _estimate(self, rows: FloatArray) -> FloatArray:
        return rows @ self.coefficients + self.intercept


class OfflineMeanEstimator(_EstimatorFile, kw_only=True, frozen=True, eq=False, dict=True, tag="mean"):
    """The mean over profiled frames for each configuration, the same for every frame.

    Attributes:
        keys: names of the features that make a configuration.
        configurations: int64 (k, len(keys)), unique rows.
        means: float64 (k,).
    """

    keys: tuple[str, ...]
    configurations: np.ndarray
    means: np.ndarray

    def __post_init__(self) -> None:
        if missing := set(self.keys) - set(self.features):
            raise ValueError(f"keys {sorted(missing)} are not among the features")
        if self.configurations.shape != (len(self.means), len(self.keys)) or not len(self.means):
            raise ValueError(f"configurations {self.configurations.shape} and means {self.means.shape} do not fit")

    @cached_property
    def _columns(self) -> list[int]:
        return [self.features.index(key) for key in self.keys]

    def _estimate(self, rows: FloatArray) -> FloatArray:
        same = (rows[:, None, self._columns] == self.configurations).all(axis=2)
        if not (found := same.any(axis=1)).all():
            values = rows[~found][0, self._columns]
            name = ", ".join(f"{key}={value:g}" for key, value in zip(self.keys, values, strict=True))
            raise UserError(f"offline mean of {self.target}: {name} was never profiled: profile it, or choose another")
        return self.means[same.argmax(axis=1)]


AnyEstimator = MlpEstimator | LinearEstimator | OfflineMeanEstimator
KINDS = ("mlp", "linear", "mean")


def save_estimator(estimator: AnyEstimator, path: Path) -> None:
    """Write `estimator` as JSON; arrays are exact."""
    data = msgspec.json.encode(estimator, enc_hook=_encode_array)
    with atomic_path(path) as temporary:
        temporary.write_bytes(msgspec.json.format(data, indent=1) + b"\n")


def load_estimator(path: Path, target: Target | None = None) -> AnyEstimator:
    """Read an estimator from its file.

    Args:
        path: file of `save_estimator`.
        target: what it must estimate; None for either.

    Raises:
        UserError: no such file, or one of another version, kind, target or feature list, or damaged.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such estimator; {_MAKE_AGAIN}")
    return decode_estimator(path.read_bytes(), str(path), target)


def decode_estimator(data: bytes, name: str, target: Target | None = None) -> AnyEstimator:
    """Read an estimator from the bytes of its file; `name` is used in errors, which are those of `load_estimator`."""
    try:
        header = decode_json(data, _Header)
    except msgspec.DecodeError as error:
        raise UserError(f"{name} is not an estimator file ({error}); {_MAKE_AGAIN}") from error
    if header.version != VERSION:
        raise UserError(f"{name} has version {header.version}, this program reads {VERSION}; {_MAKE_AGAIN}")
    if header.kind not in KINDS:
        raise UserError(f"{name} holds an estimator of kind '{header.kind}', not one of {', '.join(KINDS)}")
    targets = (target,) if target else get_args(Target)
    if header.target not in targets:
        raise UserError(f"{name} estimates '{header.target}', not {' or '.join(targets)}")
    wanted = FEATURES[header.target]
    if header.features != wanted:
        raise UserError(f"{name} takes {', '.join(header.features)}, but {', '.join(wanted)} are given; {_MAKE_AGAIN}")
    try:
        return decode_json(data, AnyEstimator, _decode_array)  # type: ignore[arg-type]
    except msgspec.DecodeError as error:
        raise UserError(f"{name} is damaged ({error}); {_MAKE_AGAIN}") from error


class _Header(msgspec.Struct):
    """Read first, so that errors name a wrong version as such."""

    kind: str
    version: int
    target: Any
    features: tuple[str, ...]


class _Array(msgspec.Struct, forbid_unknown_fields=True):
    """A NumPy array in JSON: `data` is base64 of the little-endian values."""

    dtype: Literal["<f4", "<f8", "<i8"]
    shape: tuple[int, ...]
    data: bytes


def _encode_array(value: object) -> _Array:
    if not isinstance(value, np.ndarray):
        raise TypeError(f"an estimator file holds no {type(value).__name__}")
    dtype = value.dtype.newbyteorder("<").str
    return _Array(dtype, value.shape, np.ascontiguousarray(value, dtype).tobytes())


def _decode_array(wanted: type, value: object) -> np.ndarray:
    if wanted is not np.ndarray:
        raise TypeError(f"an estimator file holds no {wanted}")
    array = msgspec.convert(value, _Array)
    result = np.frombuffer(array.data, array.dtype).reshape(array.shape)
    if not np.isfinite(result).all():
        raise ValueError("a value is not a finite number")
    return result
