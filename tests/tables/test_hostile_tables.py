"""Small files that would take much memory are refused before they are decoded; honest ones are read."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vitmalis.errors import UserError
from vitmalis.records import FrameRecord, RecordsInfo, read_frames, record_table, write_frames
from vitmalis.tables.journal import TableJournal, journal_path, read_batches, read_schema
from vitmalis.tables.page_headers import read_page_header
from vitmalis.tables.parquet import read_parquet
from vitmalis.untrusted_files import UNFOLDED_BYTES

INFO = RecordsInfo(policy="trackb2b", clip="market1906")
ROWS = [FrameRecord(frame_index=i, capture_time_s=i / 30, render_time_s=i / 30) for i in range(8)]
BOMB = 40_000_000
"""Values that take 640 MB."""


def many_rows() -> pa.Table:
    return pa.table({"x": np.zeros(1_000_000, np.int64)})


def many_values_in_a_row() -> pa.Table:
    values = pa.array(np.zeros(BOMB // 4, np.float32))
    return pa.table({"x": pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values)})


def one_long_text() -> pa.Table:
    return pa.table({"x": [b"a" * (2 * UNFOLDED_BYTES)]}, pa.schema([("x", pa.binary())])).cast(
        pa.schema([("x", pa.string())])
    )


def repeated_text() -> pa.Table:
    codes = pa.DictionaryArray.from_arrays(pa.array(np.zeros(20_000, np.int32)), pa.array(["a" * 100_000]))
    return pa.table({"x": codes})


@pytest.mark.parametrize("make", [many_rows, many_values_in_a_row, one_long_text, repeated_text])
def test_a_small_file_that_unfolds_is_refused(tmp_path: Path, make: Callable[[], pa.Table]) -> None:
    path = tmp_path / "bomb.parquet"
    pq.write_table(make(), path, compression="zstd", store_schema=False)
    assert path.stat().st_size < 150_000
    with pytest.raises(ValueError, match="MiB of memory"):
        read_parquet(path, ["x"])


def test_text_that_repeats_is_read_in_full(tmp_path: Path) -> None:
    """Reasons of lost offloads: as many texts as rows, so that text times rows says nothing."""
    texts = [f"no answer within 2.0 s, offload {i}" for i in range(30_000)] + [None]
    pq.write_table(pa.table({"x": texts}), tmp_path / "honest.parquet")
    assert read_parquet(tmp_path / "honest.parquet", ["x"]).column("x").to_pylist() == texts


@pytest.mark.parametrize(
    "column",
    [
        pa.array([[[1]]]),
        pa.array([["a"]]),
        pa.array([{"a": 1}]),
        pa.array([b"a"], pa.binary(1)),
        pa.array([[1, 2]], pa.list_(pa.int64(), 2)),
        pa.array(["a"]).dictionary_encode(),
        pa.nulls(1),
    ],
)
def test_columns_of_other_types_are_not_read(tmp_path: Path, column: pa.Array) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"x": column, "y": [7]}), path)
    with pytest.raises(ValueError, match="'x' has type"):
        read_parquet(path, ["x", "y"])
    assert read_parquet(path, ["y", "z"]).to_pydict() == {"y": [7]}  # what is not asked for is not looked at


def test_a_delta_encoding_is_not_read(tmp_path: Path) -> None:
    """In which each text can repeat the one before it at no cost."""
    path = tmp_path / "t.parquet"
    table = pa.table({"x": ["a" * 100 + str(i) for i in range(9)]})
    pq.write_table(table, path, use_dictionary=False, column_encoding="DELTA_BYTE_ARRAY")
    with pytest.raises(ValueError, match="another encoding"):
        read_parquet(path, ["x"])


def varint(value: int) -> bytes:
    value <<= 1  # zigzag, of numbers that are not negative
    digits = [value >> shift & 0x7F for shift in range(0, max(value.bit_length(), 1), 7)]
    return bytes([*(digit | 0x80 for digit in digits[:-1]), digits[-1]])


def page(size: int, stored: int, values: int, encoding: int = 0) -> bytes:
    """The header of a data page: type, sizes, and a structure with the number of values and three encodings."""
    inner = b"\x15" + varint(values) + b"\x15" + varint(encoding) + b"\x15\x06\x15\x06\x00"
    return b"\x15\x00\x15" + varint(size) + b"\x15" + varint(stored) + b"\x2c" + inner + b"\x00"


def test_a_page_header_is_read_as_thrift_writes_it() -> None:
    data = b"..." + page(1_000, 40, 500) + b"x" * 40
    header = read_page_header(data, 3, len(data))
    assert (header.is_dictionary, header.values, header.size, header.end) == (False, 500, 1_000, len(data))
    for end in range(3, len(data)):
        with pytest.raises(ValueError, match=r"does not end|ends behind"):
            read_page_header(data, 3, end)


@pytest.mark.parametrize(
    "header",
    [
        page(1, 1, 1, encoding=7),
        page(1, 1, 1)[:-1] + b"\x05\x02\x02\x00",  # the second field again, at the end
        page(2**31, 1, 1),
        b"\x15\x00" + b"\x1c" * 100,  # structures in each other
        b"\x19\xf5\xff\xff\xff\xff\x7f",  # a list
        b"\x15" + b"\xff" * 11,
        b"\x00",
    ],
)
def test_other_page_headers_are_refused(header: bytes) -> None:
    data = header + bytes(200)
    with pytest.raises(ValueError, match=r"page"):
        read_page_header(data, 0, len(data))


def test_pages_that_hold_more_than_the_metadata_say_are_refused(tmp_path: Path) -> None:
    """A page of the file claims two billion values; pyarrow would make room for them."""
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"x": pa.array(range(1000), pa.int64())}), path, use_dictionary=False, compression="none")
    data = path.read_bytes()
    honest = varint(1000)
    at = data.index(b"\x15" + honest + b"\x15\x00")
    path.write_bytes(data[: at + 1] + varint(1001) + data[at + 1 + len(honest) :])
    with pytest.raises(ValueError, match="other numbers of values"):
        read_parquet(path, ["x"])


def test_records_are_read_through_these_bounds(tmp_path: Path) -> None:
    path = tmp_path / "frames.parquet"
    table = record_table(FrameRecord, ROWS[:1], INFO)
    bomb = pa.concat_tables([table] * 200_000).combine_chunks()
    pq.write_table(bomb, path, compression="zstd")
    assert path.stat().st_size < 200_000
    with pytest.raises(UserError, match=r"frames\.parquet: the file is damaged .*MiB of memory"):
        read_frames(path)
    write_frames(path, ROWS, INFO)
    assert [row.frame_index for row in read_frames(path)] == list(range(8))


def journal(path: Path, *tables: pa.Table) -> None:
    writer = TableJournal(path, tables[0].schema)
    for table in tables:
        writer.append(table)
    writer.close()


def test_a_journal_is_read_up_to_a_batch_that_unfolds(tmp_path: Path) -> None:
    path = tmp_path / ".frames.part"
    journal(path, pa.table({"x": [0, 1]}), pa.table({"x": np.zeros(BOMB, np.int64)}), pa.table({"x": [2]}))
    assert path.stat().st_size < 200_000
    assert [batch.num_rows for batch in read_batches(path)] == [2]


def test_the_batches_of_a_journal_count_together(tmp_path: Path) -> None:
    """Each has 20,000 rows of one value, which take 520 bytes each; six of them fit into 64 MiB."""
    path = tmp_path / ".frames.part"
    journal(path, *(pa.table({"x": np.full(20_000, key)}) for key in range(50)))
    assert path.stat().st_size < UNFOLDED_BYTES // 256
    assert [batch.num_rows for batch in read_batches(path)] == [20_000] * 6


def test_a_batch_that_claims_more_rows_than_it_holds_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / ".frames.part"
    journal(path, pa.table({"x": [0, 1, 2]}))
    data = path.read_bytes()
    assert data.count(struct.pack("<q", 3)) >= 1
    path.write_bytes(data.replace(struct.pack("<q", 3), struct.pack("<q", 2**50)))
    assert list(read_batches(path)) == []


def test_the_schema_of_a_journal_has_plain_columns(tmp_path: Path) -> None:
    path = journal_path(tmp_path / "frames.parquet")
    with path.open("wb") as file:
        pa.ipc.new_stream(file, pa.schema([("x", pa.dictionary(pa.int32(), pa.string()))])).close()
    with pytest.raises(ValueError, match="'x' has type"):
        read_schema(path)
    with pytest.raises(UserError, match=r"frames\.parquet: the file is damaged"):
        read_frames(tmp_path / "frames.parquet")
