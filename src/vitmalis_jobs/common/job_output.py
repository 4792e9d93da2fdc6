"""What profiling jobs tell: one JSON object on standard output and in a file; tables, plots and bars for people."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from vitmalis.errors import UserError
from vitmalis.paths import atomic_path


def emit(result: dict[str, Any], path: Path) -> None:
    """Print a result to standard output and store it."""
    text = json.dumps(result, indent=2)
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n")
    print(text)


def say(text: str) -> None:
    """A line on standard error."""
    print(text, file=sys.stderr, flush=True)


def show_table(title: str, rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    """Some columns of rows as a table on standard error."""
    console = Console(stderr=True)
    if not console.is_terminal:
        console.width = 160  # whoever reads a log wants whole lines
    table = Table(title=title, title_justify="left", box=None, header_style="bold")
    for column in columns:
        table.add_column(column.replace("_", " "), justify="right")
    for row in rows:
        table.add_row(*(_shown(row.get(column)) for column in columns))
    console.print(table)


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def listed(kind: Callable[[str], Any], low: float, high: float) -> Callable[[str], list[Any]]:
    """An argparse type: values between commas, each from `low` to `high`."""

    def parse(text: str) -> list[Any]:
        try:
            values = [kind(part) for part in text.split(",")]
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"'{text}' is no list like 1,2,3 ({error})") from error
        if outside := [value for value in values if not low <= value <= high]:
            raise argparse.ArgumentTypeError(f"{outside[0]} is outside {low:g} to {high:g}")
        return values

    return parse


def check_positive(options: argparse.Namespace, *names: str) -> None:
    """Raise `UserError` unless each of the options is at least 1."""
    for name in names:
        if getattr(options, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} must be at least 1, not {getattr(options, name)}")
