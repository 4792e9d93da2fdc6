"""Detectors of other packages: named by a configuration or an entry point, built once in a process."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec

from vitmalis.detector.base_detector import BaseDetector
from vitmalis.detector.config import AdaptedConfig
from vitmalis.errors import UserError
from vitmalis.extensions import ExtensionPoint
from vitmalis.fingerprint import class_digest, digest
from vitmalis.names import check_path_part
from vitmalis.regions.grid import ModelGeometry

DETECTOR: ExtensionPoint[BaseDetector] = ExtensionPoint("model", "vitmalis.detectors", BaseDetector, {})
"""Where detectors of other packages come from: entry points, and classes by their dotted names."""


def custom_detector(name: str, target: str, options: Mapping[str, Any]) -> tuple[BaseDetector, AdaptedConfig]:
    """Build a detector from its class, once in a process; also returns its description.

    The description changes with the code of the class, its options, the files that these name, and `content`.

    Args:
        name: how users choose it.
        target: the class, as an entry point or a dotted name.
        options: keyword arguments of its constructor.

    Raises:
        UserError: it cannot be found, does not take its options, or its geometry is not one that can be served.
    """
    check_path_part("model.name", name)
    return _built(name, target, msgspec.json.encode(options))


@lru_cache(maxsize=4)
def _built(name: str, target: str, options_json: bytes) -> tuple[BaseDetector, AdaptedConfig]:
    options = msgspec.json.decode(options_json)
    detector = DETECTOR.build(target, options)
    detector.name = name
    config = AdaptedConfig(
        name=name,
        source="custom",
        architecture=digest([class_digest(type(detector), options), options, detector.content()]),
        geometry=_checked_geometry(f"model '{name}' ({target})", detector),
        pixel_mean=(0.0, 0.0, 0.0),
        pixel_std=(1.0, 1.0, 1.0),
    )
    return detector, config


def _checked_geometry(what: str, detector: BaseDetector) -> ModelGeometry:
    """The geometry of a detector; raises `UserError` for one that no client would accept."""
    try:
        return msgspec.convert(msgspec.to_builtins(detector.geometry), ModelGeometry)
    except (msgspec.ValidationError, TypeError) as error:
        raise UserError(f"{what}: geometry={detector.geometry}: {error}") from error
