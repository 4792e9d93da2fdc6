"""The configuration of a finished run, read from its `config.yaml`, also of a run of an earlier version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import yaml

from vitmalis_jobs.run.config import EvaluationConfig

RENAMED_OPTIONS = {"output": {"film_seconds": "video_seconds", "pictures": "figures"}}
"""Options by their earlier names, by section."""
REMOVED_OPTIONS = {"model": ("capacity_scale",), "latency": ("capacity_scale",)}
"""Options that there are no longer, by section. The capacity that was played stands in section `trace`, too."""


def read_config(path: Path) -> EvaluationConfig:
    """Read the `config.yaml` of a run.

    Raises:
        OSError: the file cannot be read.
        msgspec.MsgspecError: it is no configuration of an evaluation, or one of an incompatible version.
    """
    sections = _decode_yaml(path.read_bytes())
    if isinstance(sections, dict):
        sections = {section: _current(section, options) for section, options in sections.items()}
        _name_tracker(sections)
    return msgspec.convert(sections, EvaluationConfig)


def _current(section: Any, options: Any) -> Any:
    """A section with the options of today by their names of today; what is no mapping stays as it is."""
    if not isinstance(options, dict):
        return options
    renamed, removed = RENAMED_OPTIONS.get(section, {}), REMOVED_OPTIONS.get(section, ())
    return {renamed.get(key, key): value for key, value in options.items() if key not in removed}


def _name_tracker(sections: dict[str, Any]) -> None:
    """Name the tracker of older runs, which had no choice."""
    client = sections.get("client")
    if isinstance(client, dict) and isinstance(client.get("tracker"), dict):
        client["tracker"].setdefault("name", "lucas_kanade")


def _decode_yaml(data: bytes) -> Any:
    """Decode YAML without aliases, by which a few lines unfold without end; raises `msgspec.DecodeError`."""
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(data, yaml.CSafeLoader)):
            raise ValueError("it has aliases, which no run writes")
        return msgspec.yaml.decode(data)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise msgspec.DecodeError(f"malformed YAML: {error}") from error
