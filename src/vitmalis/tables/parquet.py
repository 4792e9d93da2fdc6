"""Reading of Parquet files whose columns cannot take more memory than their file justifies.

A Parquet file unfolds in several ways: compressed pages, run lengths, dictionaries, lists. What it claims is added up
before anything is decoded, from the metadata and from the header of every page, since the decoder goes by these.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vitmalis.tables.column_types import check_types, is_text
from vitmalis.tables.page_headers import PageHeader, read_page_header
from vitmalis.tables.record_batches import ROW_BYTES
from vitmalis.untrusted_files import check_unfolded

MAX_METADATA_BYTES = 64 * 2**20
MAX_METADATA_ITEMS = 20_000
"""Elements of one list in the metadata: row groups of a file, columns of a row group."""

VALUE_BYTES = 16
"""Memory of a value with its levels, apart from text."""


def read_parquet(path: Path, columns: Sequence[str]) -> pa.Table:
    """Read those of some columns that a file has: numbers, bools, text, and lists of numbers and bools.

    Args:
        path: of the file; not a folder of files, as pyarrow's `read_table` takes columns from names `key=value`.
        columns: their names.

    Raises:
        pa.ArrowException: the file is damaged.
        ValueError: it is damaged, its columns have other types, or they would take more memory than is allowed for a
            file of its size.
        OSError: it cannot be read.
    """
    limits = {"thrift_string_size_limit": MAX_METADATA_BYTES, "thrift_container_size_limit": MAX_METADATA_ITEMS}
    with pq.ParquetFile(path, **limits) as file:
        metadata = file.metadata
        schema = pa.schema(field for field in file.schema_arrow if field.name in columns)
    check_types(schema)
    texts = [field.name for field in schema if is_text(field.type)]
    needed_bytes = _needed_bytes(path, metadata, set(schema.names))
    check_unfolded(path, needed_bytes)
    # Text is read as codes of a dictionary, so that its size is known before it is copied for each row.
    with pq.ParquetFile(path, metadata=metadata, read_dictionary=texts, **limits) as file:
        table = file.read(columns=schema.names)
    for name in texts:
        column = table.column(name)
        check_unfolded(path, needed_bytes + sum(_text_bytes(chunk) for chunk in column.chunks))
        table = table.set_column(table.column_names.index(name), name, column.cast(pa.string()))
    return table


def _needed_bytes(path: Path, metadata: pq.FileMetaData, names: set[str]) -> int:
    """Memory that some columns need at most, apart from text that a dictionary repeats."""
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    needed = ROW_BYTES * sum(group.num_rows for group in groups)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for group in groups:
            for chunk in (group.column(i) for i in range(group.num_columns)):
                if chunk.path_in_schema.split(".")[0] in names:
                    needed += VALUE_BYTES * chunk.num_values + sum(page.size for page in _pages(data, chunk))
    return needed


def _pages(data: mmap.mmap, chunk: pq.ColumnChunkMetaData) -> list[PageHeader]:
    """The headers of a column's pages in a row group.

    Raises:
        ValueError: they are malformed, lie outside the file, or hold other numbers of values than the metadata say.
    """
    if chunk.num_values == 0:  # no page is read; pyarrow writes no offset then
        return []
    position = chunk.data_page_offset
    if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < position:
        position = chunk.dictionary_page_offset
    end = position + chunk.total_compressed_size
    if not 0 <= position <= end <= len(data):
        raise ValueError("a column lies outside the file")
    pages = []
    while position < end:
        page = read_page_header(data, position, end)
        pages.append(page)
        position = page.end
    if sum(page.values for page in pages if not page.is_dictionary) != chunk.num_values:
        raise ValueError("the pages of a column have other numbers of values than the metadata say")
    return pages


def _text_bytes(codes: pa.DictionaryArray) -> int:
    """Size of the texts that the codes of a dictionary stand for."""
    lengths = pc.binary_length(codes.dictionary).cast(pa.int64())
    return pc.sum(lengths.take(codes.indices)).as_py() or 0
