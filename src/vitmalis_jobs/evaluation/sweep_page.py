"""What the MLflow run of a sweep shows: what varies in its name and tags, a table of its runs in its description."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from vitmalis_jobs.common.comparison import comparison_table

_TAGS = {"policy": "policy", "video": "clip", "trace": "trace", "clock": "clock"}
"""Options with a tag of their own, and the tag."""
_LISTED_VALUES = 4
"""Most values of an option that a name lists; more are counted."""
_BY_TIME = re.compile(r"[\d-]+")
"""Sweep names that say nothing: the default is date and time."""


def command_options(command: Sequence[str]) -> dict[str, list[str]]:
    """The options of a sweep's command, each with the values that it gives them."""
    parser, options = OverridesParser.create(), dict[str, list[str]]()
    for option in command:
        override = parser.parse_override(option)
        swept = override.is_sweep_override()
        values = override.sweep_string_iterator() if swept else [override.get_value_element_as_str()]
        options[override.get_key_element()] = list(values)
    return options


def sweep_title(folder_name: str, command: Sequence[str]) -> str:
    """Name of a sweep's MLflow run: its own where a user gave it one, and what varies.

    Args:
        folder_name: name of the sweep's folder.
        command: the options that decide which runs it has.
    """
    options = command_options(command).items()
    varying = " ".join(f"{key}={_values(values)}" for key, values in options if len(values) > 1)
    return f"sweep {'' if _BY_TIME.fullmatch(folder_name) else f'{folder_name}: '}{varying}".strip(": ")


def _values(values: Sequence[str]) -> str:
    return ",".join(values) if len(values) <= _LISTED_VALUES else f"({len(values)} values)"


def sweep_tags(command: Sequence[str], choices: Mapping[str, str]) -> dict[str, str]:
    """The tags of a sweep's MLflow run: its command, and what its runs play, all values of what varies.

    Args:
        command: the options that decide which runs it has.
        choices: of the configuration's groups, for those that do not vary.
    """
    values = {option: [choice] for option, choice in choices.items()} | command_options(command)
    tags = {tag: ", ".join(values[option]) for option, tag in _TAGS.items() if option in values}
    return tags | {"sweep.command": " ".join(command)}


def sweep_note(summaries: Sequence[Mapping[str, Any]], experiment_id: str) -> str:
    """A Markdown table with a row for each run of a sweep, which leads to the run's page.

    Rows that a tag of MLflow has no room for are left out, with a line that says how many.

    Args:
        summaries: of the runs.
        experiment_id: of the experiment that holds them.
    """
    from mlflow.utils.validation import MAX_TAG_VAL_LENGTH

    table = comparison_table(summaries)
    heads = [*table.names, *_plain_heads(table.numbers)]
    text = _row([*heads, "run"]) + _row(["---"] * len(table.names) + ["--:"] * len(table.numbers) + ["---"])
    for number, (cells, summary) in enumerate(zip(table.rows, summaries, strict=True)):
        run_id = summary.get("run_id")
        link = f"[{'taken over' if summary['skipped'] else 'open'}](#/experiments/{experiment_id}/runs/{run_id})"
        row, rest = (
            _row([*cells, link if run_id else ""]),
            f"\n{len(summaries) - number} more runs are in the table of runs.",
        )
        if len(text) + len(row) + len(rest) > MAX_TAG_VAL_LENGTH:
            return text + rest
        text += row
    return text.rstrip("\n")


def _plain_heads(heads: Sequence[str]) -> list[str]:
    """Heads of two lines in one; an empty first line stands for that of the column to its left."""
    plain, group = [], ""
    for head in heads:
        first, _, second = head.partition("\n")
        group = first or group
        plain.append(f"{group} {second}")
    return plain


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |\n"
