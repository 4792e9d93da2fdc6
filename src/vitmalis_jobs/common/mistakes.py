"""What Hydra refuses on a command line, in one line each: the option, what was meant perhaps, and what works."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig

from vitmalis.command_line import unknown_choice
from vitmalis_jobs.common.config import compose

_SIMILARITY = 0.75
"""From which two names count as the same with a slip; options of one section share their beginning."""


def unknown_group_choice(missing: str, options: Sequence[str]) -> str:
    """The line for a choice that its group does not have, such as `policy/vitmali`."""
    group, _, name = missing.rpartition("/")
    return unknown_choice(f"{group}={name}", name, options)


def unreadable_value(error: BaseException) -> str | None:
    """The line for an option whose value needs quotes, or None if the error is another."""
    if isinstance(error, OverrideParseException):
        override, reason = str(error.override), "Hydra cannot read this value"
    elif ambiguous := re.match(r"Ambiguous value for argument '(.*)'\n", str(error)):
        override, reason = ambiguous[1], "a comma separates the runs of a sweep: add -m to make them"
    else:
        return None
    key, equals, value = override.partition("=")
    if not equals:
        return f"{override}: options are written as key=value"
    return f"{override}: {reason}; a name with such characters is quoted for the shell and Hydra: {quoted(key, value)}"


def quoted(key: str, value: str) -> str:
    """An option as a shell and Hydra read it, whatever is in its value: `"video.path='VID (1).mp4'"`."""
    name = value.strip("'\"")
    inner = str(Path(name).expanduser() if name.startswith("~/") else name).replace("'", "\\'")
    shell = re.sub(r'(["$`]|\\(?=["$`\\]))', r"\\\1", f"{key}='{inner}'")
    return f'"{shell}"'


def unknown_option(name: str, config_name: str | None, arguments: Sequence[str]) -> str:
    """The line for an option that the configuration does not have."""
    if config_name and (line := _option_of_swept_group(name, config_name, arguments)):
        return line
    known = [] if config_name is None else list(_known_options(config_name, arguments))
    by_leaf = [option for option in known if option.rpartition(".")[2] == name.rpartition(".")[2]]
    similar = by_leaf[:1] or difflib.get_close_matches(name, known, 1, _SIMILARITY)
    meant = f"did you mean {similar[0]}? " if similar else ""
    return f"there is no option '{name}': {meant}--cfg job shows all there are"


def _option_of_swept_group(name: str, config_name: str, arguments: Sequence[str]) -> str | None:
    """The line for an option that a choice of a swept group has; None if no group is swept that has it."""
    group = name.partition(".")[0]
    for argument in arguments:
        key, _, choices = argument.partition("=")
        if key == group and "," in choices:
            others = [other for other in arguments if other != argument]
            each = [f"{key}={choice}" for choice in choices.split(",")]
            lacking = [choice for choice in each if name not in _known_options(config_name, [*others, choice])]
            if len(lacking) == len(each):
                return None
            if lacking:
                return (
                    f"{lacking[0]} has no option '{name}', which others of this sweep have: ++{name} sets it for those"
                )
            start = f"Hydra starts a sweep over {group} from the {group} that is chosen without it"
            return f"{start}, which has no option '{name}': write ++{name}"
    return None


def _known_options(config_name: str, arguments: Sequence[str]) -> Iterator[str]:
    """Options of a configuration with the groups that the command line chooses; the first choice of a sweep counts."""
    chosen = [argument.split(",")[0] for argument in arguments if re.fullmatch(r"\w+=[\w,-]+", argument)]
    searched = [argument for argument in arguments if argument.startswith("hydra.searchpath=")]
    for flag, folder in itertools.pairwise([*arguments, ""]):
        if flag in ("--config-dir", "-cd"):
            searched.append(f"hydra.searchpath=[file://{Path(folder).absolute()}]")
    for overrides in ([*searched, *chosen], []):
        try:
            config = compose(config_name, overrides)
        except (HydraException, ValueError):
            continue
        yield from _keys(config)
        return


def _keys(config: DictConfig, prefix: str = "") -> Iterator[str]:
    """The keys of a configuration and of its sections, as `section.key`; values are not resolved."""
    for key in map(str, config):
        yield f"{prefix}{key}"
        section = config._get_node(key)
        if isinstance(section, DictConfig) and not section._is_none():
            yield from _keys(section, f"{prefix}{key}.")
