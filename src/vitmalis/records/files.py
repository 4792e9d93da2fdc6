"""The files of a run's records: a Parquet file for each type of row, or the journals that a killed client has left."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from vitmalis.errors import UserError
from vitmalis.paths import atomic_path
from vitmalis.records.arrow import RecordT, file_schema, filled_columns, record_rows, record_table, schema_of
from vitmalis.records.rows import (
    ADDED_COLUMNS,
    DECISIONS_FILE,
    FRAMES_FILE,
    OFFLOADS_FILE,
    RECORD_FILES,
    SCHEMA_VERSION,
    DecisionRecord,
    FrameRecord,
    OffloadRecord,
    Record,
    RecordsInfo,
)
from vitmalis.tables.journal import journal_path, read_batches, read_schema
from vitmalis.tables.parquet import read_parquet
from vitmalis.untrusted_files import damage_reported


def write_frames(path: Path, rows: Iterable[FrameRecord], info: RecordsInfo) -> None:
    """Write frame records; the file appears whole or not at all."""
    _write(path, FrameRecord, rows, info)


def write_offloads(path: Path, rows: Iterable[OffloadRecord], info: RecordsInfo) -> None:
    """Write offload records; the file appears whole or not at all."""
    _write(path, OffloadRecord, rows, info)


def write_decisions(path: Path, rows: Iterable[DecisionRecord], info: RecordsInfo) -> None:
    """Write decision records; the file appears whole or not at all."""
    _write(path, DecisionRecord, rows, info)


def write_run(
    directory: Path,
    info: RecordsInfo,
    frames: Iterable[FrameRecord],
    offloads: Iterable[OffloadRecord],
    decisions: Sequence[DecisionRecord] = (),
) -> None:
    """Write all records of a run; the frames last, so that a run with frames is complete.

    Raises:
        OSError: the folder does not take them.
    """
    write_offloads(directory / OFFLOADS_FILE, offloads, info)
    if decisions:
        write_decisions(directory / DECISIONS_FILE, decisions, info)
    write_frames(directory / FRAMES_FILE, frames, info)


def remove_records(directory: Path) -> None:
    """Remove the records of an earlier run from a folder, and the journals of one that was killed; frames first."""
    for name in reversed(RECORD_FILES.values()):
        for path in (directory / name, journal_path(directory / name)):
            path.unlink(missing_ok=True)


def has_records(path: Path) -> bool:
    """Whether a record file, or the journal that a killed client has left in its place, can be read."""
    return path.is_file() or journal_path(path).is_file()


def read_frames(path: Path) -> list[FrameRecord]:
    """Read frame records in the order written; raises `UserError` for a missing or foreign file."""
    return _read(path, FrameRecord)


def read_offloads(path: Path) -> list[OffloadRecord]:
    """Read offload records in the order written; raises `UserError` for a missing or foreign file."""
    return _read(path, OffloadRecord)


def read_decisions(path: Path) -> list[DecisionRecord]:
    """Read decision records in the order written; raises `UserError` for a missing or foreign file."""
    return _read(path, DecisionRecord)


def read_info(path: Path) -> RecordsInfo:
    """Read the metadata of a file of records; raises `UserError` for a missing or foreign file."""
    with _reading(path):
        return _info(path, _read_table(path, ()))


def _write(path: Path, row_type: type[Record], rows: Iterable[Record], info: RecordsInfo) -> None:
    table = record_table(row_type, rows, info)
    table = table.select(file_schema(table.schema, filled_columns(table)).names)
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def _read(path: Path, row_type: type[RecordT]) -> list[RecordT]:
    schema = schema_of(row_type)
    with _reading(path):
        table = _read_table(path, schema.names)
        _info(path, table)
        if missing := sorted(set(schema.names) - set(table.column_names) - ADDED_COLUMNS[row_type]):
            raise UserError(f"records {path}: not a file of {row_type.__name__}s (no column {missing[0]!r})")
        return list(record_rows(row_type, table))


def _reading(path: Path) -> AbstractContextManager[None]:
    return damage_reported(f"records {path}", "make the run again")


def _read_table(path: Path, columns: Sequence[str]) -> pa.Table:
    """Some columns of a record file, or all of the journal in its place."""
    if not has_records(path):
        raise UserError(f"records {path}: no such file; did the run finish?")
    if path.is_file():
        return read_parquet(path, columns)
    journal = journal_path(path)
    return pa.Table.from_batches(read_batches(journal), schema=read_schema(journal))


def _info(path: Path, table: pa.Table) -> RecordsInfo:
    stored = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
    values = {key.removeprefix("vitmalis."): value for key, value in stored.items() if key.startswith("vitmalis.")}
    version = int(values.pop("schema_version", -1))
    if version != SCHEMA_VERSION:
        raise UserError(f"records {path}: schema version {version}, this code reads {SCHEMA_VERSION}; run it again")
    return RecordsInfo(**values, schema_version=version)
