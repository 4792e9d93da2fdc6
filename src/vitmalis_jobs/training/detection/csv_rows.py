"""Rows of CSV files that may be damaged or foreign: what is wrong with one is a line with its file, row and value."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vitmalis.errors import UserError
from vitmalis.types import COCO_CLASSES

MAX_BYTES = 64 * 2**20
"""Largest file that is read."""
MAX_COORDINATE_PX = 1e5
"""Largest coordinate of a box, on either side of 0."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table.

    Attributes:
        table: kind and path of the file, for messages.
        number: of the row in the file, whose header is row 1.
        values: text by column.
    """

    table: str
    number: int
    values: dict[str, str]

    def mistake(self, column: str, expected: str) -> UserError:
        """The error for a value that is not what is expected."""
        return UserError(
            f"{self.table}: row {self.number}: {column} is {self.values[column]!r:.80}, expected {expected}"
        )

    def real(self, column: str, low: float, high: float) -> float:
        """Read a number of a range.

        Raises:
            UserError: it is no number, or out of the range.
        """
        try:
            value = float(self.values[column])
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise self.mistake(column, f"a number from {low:g} to {high:g}")
        return value

    def whole(self, column: str, low: int, high: int) -> int:
        """Read a whole number of a range.

        Raises:
            UserError: it is no whole number, or out of the range.
        """
        text = self.values[column]
        if not (text.isascii() and text.isdecimal() and len(text) < 20 and low <= int(text) <= high):
            raise self.mistake(column, f"a whole number from {low} to {high}")
        return int(text)

    def box(self, low: float, highest_x: float, highest_y: float) -> list[float]:
        """Read the box `x1,y1,x2,y2`, whose coordinates have the given limits.

        Raises:
            UserError: a coordinate is out of its limits, or the box is empty.
        """
        x1, y1, x2, y2 = (
            self.real(column, low, high)
            for column, high in (("x1", highest_x), ("y1", highest_y), ("x2", highest_x), ("y2", highest_y))
        )
        for column, start, end in (("x2", x1, x2), ("y2", y1, y2)):
            if end <= start:
                raise self.mistake(column, f"more than {start:g}")
        return [x1, y1, x2, y2]

    def coco_class(self, column: str) -> int:
        """Read the name of a COCO class, as an index into `COCO_CLASSES`; underscores count as spaces.

        Raises:
            UserError: there is no such class.
        """
        name = self.values[column].replace("_", " ")
        if name not in COCO_CLASSES:
            raise self.mistake(column, "the name of a COCO class, such as person or car")
        return COCO_CLASSES.index(name)


def read_rows(path: Path, kind: str, columns: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of a CSV file with a header.

    Args:
        path: the file.
        kind: what it is, for messages.
        columns: those that it must have; others are read, too.

    Raises:
        UserError: the file is too large, lacks a column, or has a row that cannot be read.
    """
    table = f"{kind} '{path}'"
    if (size := path.stat().st_size) > MAX_BYTES:
        raise UserError(f"{table}: {size} bytes are more than the {MAX_BYTES} that are read")
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file)
        number = 0
        try:
            header = next(lines, [])
            if missing := [column for column in columns if column not in header]:
                raise UserError(f"{table}: there is no column '{missing[0]}'; expected {','.join(columns)}")
            for number, fields in enumerate(lines, start=2):
                if not fields:
                    continue
                if len(fields) != len(header):
                    raise UserError(f"{table}: row {number}: {len(fields)} values, expected {len(header)}")
                yield Row(table, number, dict(zip(header, fields, strict=True)))
        except (csv.Error, UnicodeDecodeError) as error:
            raise UserError(f"{table}: cannot be read after row {max(number, 1)} ({error})") from error
