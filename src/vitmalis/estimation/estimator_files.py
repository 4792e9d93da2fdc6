"""Files of estimators: JSON whose arrays are base64 of their values, so that they are exact."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

import msgspec
import numpy as np

from vitmalis.errors import UserError
from vitmalis.estimation.estimators import FEATURES, KINDS, VERSION, AnyEstimator, Target
from vitmalis.paths import atomic_path
from vitmalis.untrusted_files import decode_json

_MAKE_AGAIN = "make it again with `python -m training.estimators`"


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
    given = FEATURES[header.target]
    if unknown := [feature for feature in header.features if feature not in given]:
        raise UserError(f"{name} takes {', '.join(unknown)}, but only {', '.join(given)} are given; {_MAKE_AGAIN}")
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
