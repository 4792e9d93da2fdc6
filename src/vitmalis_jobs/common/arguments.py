"""Arguments that several command lines share: lists of values, counts that must be positive."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from vitmalis.errors import UserError


def listed(kind: Callable[[str], Any], low: float, high: float) -> Callable[[str], list[Any]]:
    """Make an argparse type for values separated by commas, each from `low` to `high`."""

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
    """Check that each of the options is at least 1.

    Raises:
        UserError: one is not.
    """
    for name in names:
        if getattr(options, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} must be at least 1, not {getattr(options, name)}")
