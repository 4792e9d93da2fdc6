"""`vary`: options that one run of a sweep sets together, so that a sweep can change one thing at a time.

A sweep over several options plays every combination of their values. The values of this one option are sets of options,
so that a sweep over it plays just those: `vary=null,{trace.rtt_scale:2},{eval.iou_threshold:0.75}`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict

from vitmalis.errors import UserError

OPTION = "vary"


def varied(config: DictConfig) -> DictConfig:
    """A composed configuration with the options of `vary` set, and without `vary` itself.

    Raises:
        UserError: `vary` is no set of options, or one of them is no single option of this configuration.
    """
    config = config.copy()
    with open_dict(config):
        options = config.pop(OPTION, None)
    if options is None:
        return config
    if not isinstance(options, DictConfig):
        raise UserError(f"{OPTION}={options}: give options in braces, such as {OPTION}={{trace.rtt_scale:2}}")
    for key, value in options.items():
        _set(config, str(key), value)
    return config


def _set(config: DictConfig, key: str, value: Any) -> None:
    missing = object()
    before = OmegaConf.select(config, key, default=missing)
    if before is missing:
        raise UserError(f"{OPTION}={{{key}:{value}}}: there is no option {key} in this run")
    if isinstance(before, DictConfig):
        raise UserError(f"{OPTION}={{{key}:{value}}}: {key} is a section; give single options of it, {key}.<option>")
    OmegaConf.update(config, key, value)


def variation(overrides: Sequence[str]) -> str:
    """What `vary` changes in a run with these overrides, such as `trace.rtt_scale=2`; empty for nothing."""
    given = [override for override in overrides if override.lstrip("+").startswith(f"{OPTION}=")]
    options = OverridesParser.create().parse_override(given[-1]).value() if given else None
    return ", ".join(f"{key}={value}" for key, value in options.items()) if isinstance(options, Mapping) else ""
