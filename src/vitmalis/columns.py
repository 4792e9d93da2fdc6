"""Columns of a record: an attribute is declared once, with its unit and meaning, and its annotation gives the type."""

from __future__ import annotations

import dataclasses
from typing import Any


def column(unit: str, description: str, default: Any = dataclasses.MISSING) -> Any:
    """Declare an attribute of a dataclass as a column of the files that its records are written to.

    Args:
        unit: such as "s"; "1" for a plain number.
        description: what the column means.
        default: value of the attribute where it is not given; without one it must be.
    """
    return dataclasses.field(default=default, metadata={"unit": unit, "description": description})
