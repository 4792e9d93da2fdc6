"""The journals of a run's records: what a client has recorded so far, on its disk; they become the record files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from vitmalis.paths import atomic_path
from vitmalis.records import (
    FRAMES_FILE,
    RECORD_FILES,
    DecisionRecord,
    FrameRecord,
    OffloadRecord,
    Record,
    RecordsInfo,
    file_schema,
    filled_columns,
    read_info,
    record_schema,
    record_table,
    remove_records,
)
from vitmalis.tables.journal import TableJournal, journal_path, read_batches, read_schema

ROW_GROUP = 2048
"""Rows that are held in memory while record files are written."""

RecordRows = Mapping[type[Record], Sequence[Record]]
"""Rows by their type, in ascending order of their numbers."""


class RecordJournal:
    """The journals of one run, opened with its first rows; records of an earlier run in the folder are removed.

    Args:
        directory: the run's folder.
        info: the run; until the record files are made, it counts as failed.

    Raises:
        OSError: the folder does not take them.
    """

    def __init__(self, directory: Path, info: RecordsInfo) -> None:
        self._directory, self._info = directory, replace(info, ended="failed")
        self._tables: dict[type[Record], TableJournal] = {}
        remove_records(directory)
        for row_type in (OffloadRecord, FrameRecord):  # decisions have a file where a policy explains them
            self._open(row_type)

    def append(self, rows: RecordRows) -> None:
        """Write rows, from the first that has changed on, and wait until they are on the disk.

        Raises:
            OSError: the disk does not take them.
        """
        for row_type, changed in rows.items():
            if changed:
                journal = self._tables.get(row_type) or self._open(row_type)
                journal.append(record_table(row_type, changed, self._info))

    def close(self) -> None:
        """Close the journals, which stay on the disk."""
        for journal in self._tables.values():
            journal.close()

    def _open(self, row_type: type[Record]) -> TableJournal:
        path = journal_path(self._directory / RECORD_FILES[row_type])
        self._tables[row_type] = TableJournal(path, record_schema(row_type, self._info))
        return self._tables[row_type]


def merged_rows(parts: Iterable[RecordRows]) -> RecordRows:
    """Several sets of rows as one, in ascending order; of rows with the same number the last one counts."""
    merged: dict[type[Record], dict[int, Record]] = {}
    for row_type, row in ((row_type, row) for part in parts for row_type, rows in part.items() for row in rows):
        merged.setdefault(row_type, {})[row.frame_index if isinstance(row, FrameRecord) else row.offload_id] = row
    return {row_type: [rows[number] for number in sorted(rows)] for row_type, rows in merged.items()}


def finish_records(directory: Path, last: RecordRows, info: RecordsInfo, into: Path | None = None) -> None:
    """Make the record files of a run out of its journals, and remove these.

    Args:
        directory: the run's folder, with its journals.
        last: rows that the journals lack, or have as they were earlier.
        info: the run, and how it ended.
        into: folder for the record files, which then leaves the journals as they are; None for `directory`.

    Raises:
        OSError: the folder does not take them; the journals are still there.
    """
    target = into or directory
    (target / FRAMES_FILE).unlink(missing_ok=True)
    for row_type, name in RECORD_FILES.items():
        path, rows = journal_path(directory / name), last.get(row_type, ())
        filled = set().union(*map(filled_columns, _batches(row_type, path, rows, info)))
        batches = _batches(row_type, path, rows, info)
        first = next(batches, None)
        if first is None and row_type is DecisionRecord:  # most policies do not explain themselves
            (target / name).unlink(missing_ok=True)
        else:
            schema = file_schema(record_schema(row_type, info), filled)
            _write_file(target / name, schema, chain([first] if first else [], batches))
    if into is None:
        _remove_journals(directory)


def recover_records(directory: Path) -> None:
    """Make record files, which say that the run failed, out of the journals that a killed client has left, if any.

    Raises:
        OSError: the folder does not take them; the journals are still there, and are read in place of the files.
    """
    frames = directory / FRAMES_FILE
    if not frames.exists() and _is_journal(journal_path(frames)):
        finish_records(directory, {}, read_info(frames))


def _remove_journals(directory: Path) -> None:
    for name in RECORD_FILES.values():
        journal_path(directory / name).unlink(missing_ok=True)


def _is_journal(path: Path) -> bool:
    """Whether there is a journal with a whole beginning."""
    try:
        read_schema(path)
    except (pa.ArrowInvalid, OSError):
        return False
    return True


def _batches(
    row_type: type[Record], journal: Path, last: Sequence[Record], info: RecordsInfo
) -> Iterator[pa.RecordBatch]:
    """The rows of a journal, followed by the last ones, which replace those of the same numbers."""
    table = record_table(row_type, last, info)
    if _is_journal(journal):
        yield from read_batches(journal, before=table.column(0)[0].as_py() if last else None)
    yield from table.to_batches()


def _write_file(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Write batches into a Parquet file, which is on the disk before it takes its name."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for table in _row_groups(batches, schema):
                writer.write_table(table)
        file.flush()
        os.fsync(file.fileno())


def _row_groups(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    """Collect batches into tables of some `ROW_GROUP` rows."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch.select(schema.names).replace_schema_metadata(schema.metadata))
        if sum(map(len, held)) >= ROW_GROUP:
            yield pa.Table.from_batches(held, schema).combine_chunks()
            held = []
    if held:
        yield pa.Table.from_batches(held, schema).combine_chunks()
