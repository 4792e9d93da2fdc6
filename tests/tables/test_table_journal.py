"""A journal gives each row as it was written last, and whatever was whole when the file was cut."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from vitmalis.tables.journal import TableJournal, journal_path, read_batches, read_schema

SCHEMA = pa.schema([pa.field("number", pa.int64()), pa.field("values", pa.list_(pa.float64()))])


def table(numbers: range, value: float) -> pa.Table:
    return pa.table({"number": list(numbers), "values": [[value, float(number)] for number in numbers]}, SCHEMA)


def written(path: Path, *tables: pa.Table) -> list[int]:
    """Write a journal; returns the size of the file after each append."""
    journal, sizes = TableJournal(path, SCHEMA), []
    for each in tables:
        journal.append(each)
        sizes.append(path.stat().st_size)
    journal.close()
    return sizes


def rows(path: Path, before: int | None = None) -> list[tuple[int, float]]:
    batches = read_batches(path, before)
    return [(row["number"], row["values"][0]) for batch in batches for row in batch.to_pylist()]


def test_a_batch_replaces_the_rows_from_its_first_key_on(tmp_path: Path) -> None:
    path = journal_path(tmp_path / "frames.parquet")
    assert path.name == ".frames.part"
    written(path, table(range(0, 4), 0.0), table(range(4, 6), 1.0), table(range(2, 5), 2.0), table(range(5, 7), 3.0))
    expected = [(0, 0.0), (1, 0.0), (2, 2.0), (3, 2.0), (4, 2.0), (5, 3.0), (6, 3.0)]
    assert rows(path) == expected
    assert rows(path, before=3) == expected[:3]
    assert rows(path, before=0) == []


def test_it_is_read_up_to_where_it_was_cut(tmp_path: Path) -> None:
    path, cut = tmp_path / "whole", tmp_path / "cut"
    sizes = written(path, *(table(range(3 * batch, 3 * batch + 3), 0.0) for batch in range(4)))
    whole = path.read_bytes()
    for size in range(sizes[0], len(whole), 3):
        cut.write_bytes(whole[:size])
        assert rows(cut) == [(number, 0.0) for number in range(3 * sum(size >= each for each in sizes))], size


def test_a_damaged_end_is_left_out(tmp_path: Path) -> None:
    """Zeros in place of the end, as after a power cut, and single bytes that are not what was written."""
    path, damaged = tmp_path / "whole", tmp_path / "damaged"
    sizes = written(path, *(table(range(batch, batch + 1), 7.0) for batch in range(4)))
    whole = path.read_bytes()
    for position in range(sizes[2], len(whole), 3):
        zeros = whole[:position] + bytes(len(whole) - position)
        flipped = bytes([whole[position] ^ 0xFF])
        for content in (zeros, whole[:position] + flipped + whole[position + 1 :]):
            damaged.write_bytes(content)
            assert rows(damaged) in ([(0, 7.0), (1, 7.0), (2, 7.0)], [(0, 7.0), (1, 7.0), (2, 7.0), (3, 7.0)]), position


def test_a_journal_without_rows_can_be_read_at_once(tmp_path: Path) -> None:
    journal = TableJournal(tmp_path / "open", SCHEMA)
    assert read_schema(tmp_path / "open") == SCHEMA
    assert rows(tmp_path / "open") == []
    journal.close()
    assert rows(tmp_path / "open") == []


def test_a_file_without_a_beginning_is_none(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(pa.ArrowInvalid):
        read_schema(tmp_path / "empty")
