"""The settings of a training run that decide what it learns: they hold until its end, over all starts of the job."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from vitmalis.errors import UserError
from vitmalis_jobs.common.config import Section

Settings = dict[str, tuple[str, str]]
"""By option: its value as shown, and as compared, which of a file may be the checksum."""
_SECTIONS = ("start", "train", "whole_frames", "clips", "rendered", "street")
"""Sections that change what is learned; others change what is evaluated, and where results go."""
_FREE = {
    *("folder", "hours", "steps", "device", "threads", "workers"),
    *("checkpoint_every_s", "evaluate_every_s", "log_every_steps"),
}
"""Options of these sections that may be others at the next start: places, the length of the run, and how it is done."""


def run_settings(config: Section) -> Settings:
    """The settings of a run by the configuration of its job."""
    values: dict[str, Any] = msgspec.to_builtins(config)
    learned_with = {"model.name": values["model"]["name"], "stages": values["stages"]}
    for section in _SECTIONS:
        options = values.get(section, {}).items()
        learned_with |= {f"{section}.{name}": value for name, value in options if name not in _FREE}
    return {name: (shown, shown) for name, value in learned_with.items() for shown in [_shown(value)]}


def with_content(settings: Settings, option: str, sha256: str) -> Settings:
    """The settings with a file's content in place of its name as what counts."""
    return settings | {option: (f"{settings[option][0]} (sha256 {sha256[:12]})", sha256)}


def check_settings(begun: Mapping[str, tuple[str, str]], now: Settings, folder: Path) -> None:
    """Compare the settings that a run in a folder began with, as far as they are known, with those of another start.

    Raises:
        UserError: they differ.
    """
    for name, (shown, compared) in now.items():
        before, known = begun.get(name, (shown, compared))
        if known != compared:
            raise UserError(
                f"{name}={shown}: the run in train.folder={folder} began with {name}={before}; continue it with that, "
                "or give another train.folder"
            )


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
