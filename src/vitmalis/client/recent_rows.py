"""The recent rows of a run's records."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Generic, TypeVar

from vitmalis.records import DecisionRecord, FrameRecord, OffloadRecord

KEPT_ROWS = 512
"""Rows of each kind that stay in memory once they are saved: 17 s of frames, longer than any report is late."""

Row = TypeVar("Row", FrameRecord, OffloadRecord, DecisionRecord)


class RecentRows(Generic[Row]):
    """Rows by ascending number, all of them or, where they are taken as they come, the last `KEPT_ROWS`.

    Attributes:
        added: how many there have been.
    """

    def __init__(self) -> None:
        self.added = 0
        self._rows: dict[int, Row] = {}
        self._changed: int | None = None

    def add(self, number: int, row: Row) -> None:
        """Add the row of the highest number so far."""
        self.added += 1
        self._rows[number] = row
        self._note_change(number)

    def update(self, number: int, **values: Any) -> None:
        """Change values of a row; nothing happens where it is not there yet, or no longer."""
        if number in self._rows:
            self._rows[number] = replace(self._rows[number], **values)
            self._note_change(number)

    def rows(self) -> list[Row]:
        """The rows that are in memory."""
        return list(self._rows.values())

    def take_changed(self) -> list[Row]:
        """The rows from the first one on that was added or changed since the last call; older ones are dropped."""
        changed, self._changed = self._changed, None
        if changed is None:
            return []
        rows = [row for number, row in self._rows.items() if number >= changed]
        for number in list(self._rows)[:-KEPT_ROWS]:
            del self._rows[number]
        return rows

    def _note_change(self, number: int) -> None:
        self._changed = number if self._changed is None else min(self._changed, number)
