"""Arguments that several command lines share: lists of values, positive counts, options of `evaluate.py`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from typing import Any

from vitmalis.command_line import unknown_choice
from vitmalis.errors import UserError


def listed(kind: Callable[[str], Any], low: float, high: float) -> Callable[[str], list[Any]]:
    """Make an argparse type for values separated by commas, each from `low` to `high`."""

    def parse(text: str) -> list[Any]:
        try:
            values = [kind(part) for part in text.split(",")]
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"give a list like 1,2,3 ({error})") from error
        if outside := [value for value in values if not low <= value <= high]:
            raise argparse.ArgumentTypeError(f"{outside[0]} is outside {low:g} to {high:g}")
        return values

    return parse


def chosen(choices: Iterable[str]) -> Callable[[str], list[str]]:
    """Make an argparse type for names separated by commas, each one of the choices."""
    known = list(choices)

    def parse(text: str) -> list[str]:
        names = text.split(",")
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(unknown_choice(f"'{unknown[0]}'", unknown[0], known))
        return list(dict.fromkeys(names))

    return parse


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Add the arguments OPTION=VALUE, which change the runs of `evaluate.py` that a job makes."""
    parser.add_argument(
        "overrides",
        nargs="*",
        default=[],
        metavar="OPTION=VALUE",
        help="options of evaluate.py for the runs, such as policy=vitmalis eval.seconds=20",
    )


def check_positive(options: argparse.Namespace, *names: str) -> None:
    """Check that each of the options is at least 1.

    Raises:
        UserError: one is not.
    """
    for name in names:
        if getattr(options, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} must be at least 1, not {getattr(options, name)}")
