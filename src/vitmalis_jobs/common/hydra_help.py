"""Help of a job whose options are a configuration in `conf/`: what it does, its options with comments, examples."""

from __future__ import annotations

import re
from collections.abc import Mapping

from vitmalis.command_line import example_lines
from vitmalis_jobs.common.config import conf_dir

_CHOICE = re.compile(r"  - (?:override )?(\w+)(?:@[\w.]+)?: (\w+)")
_NOT_OPTIONS = ("defaults:", "hydra:")


def hydra_help(program: str, about: str, config_name: str, examples: Mapping[str, str]) -> str:
    """Compose what `--help` prints.

    Args:
        program: the command that starts the job.
        about: docstring of the job's module, whose first line may end with the command.
        config_name: name of a file in `conf/`; its comments describe the options.
        examples: options of commands to try, each with what that command does.
    """
    first, _, more = about.strip().partition("\n")
    text = (conf_dir() / f"{config_name}.yaml").read_text(encoding="utf-8")
    parts = [
        re.sub(r": `.*", ".", first),
        f"usage: {program} [OPTION=VALUE ...] [-m]",
        more.strip(),
        _choices(text),
        f"Options, as in conf/{config_name}.yaml, with their defaults:",
        _options(text),
        "--cfg job prints the whole configuration; -m with values separated by commas makes a run of each.",
        example_lines({f"{program} {options}".strip(): effect for options, effect in examples.items()}),
    ]
    return "\n\n".join(part for part in parts if part)


def _choices(text: str) -> str:
    """A line for each group of the defaults list that has more than one choice; nothing where there is none."""
    lines = []
    for group, default in _CHOICE.findall(text):
        names = sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))
        if len(names) > 1:
            lines.append(f"  {group}: {', '.join([default, *(name for name in names if name != default)])}")
    return "\n".join(["Choose one of each (the first is the default):", *lines]) if lines else ""


def _options(text: str) -> str:
    """The sections of a configuration file, without those that only Hydra reads."""
    blocks = re.split(r"\n(?=\S)", text)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(block for block in blocks if not block.startswith(_NOT_OPTIONS))).strip()
