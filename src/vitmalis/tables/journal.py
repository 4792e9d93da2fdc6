"""The journal of a table: rows are on the disk as soon as they are appended, and a cut file is read up to its cut.

It is an Arrow stream, as a Parquet file cannot be read before it is closed. Each batch has a checksum, because the end
of a file may be zeros after a power cut. A batch replaces the rows before it from its own first key on (keys are the
first column, ascending), so that the last rows can be written again once more is known about them.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from itertools import accumulate
from pathlib import Path

import numpy as np
import pyarrow as pa

from vitmalis.paths import atomic_path
from vitmalis.tables.column_types import check_types
from vitmalis.tables.record_batches import batch_bytes
from vitmalis.untrusted_files import check_unfolded

_CHECKSUM = b"vitmalis.crc32"


class TableJournal:
    """An open journal; a file that is there is replaced.

    Args:
        path: of the journal.
        schema: of the table; its first column has the keys.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        with atomic_path(path) as beginning:  # a journal without its schema cannot be read
            self._file = beginning.open("wb")
            options = pa.ipc.IpcWriteOptions(compression="zstd")
            self._stream = pa.ipc.new_stream(self._file, schema, options=options)
            self._write(pa.RecordBatch.from_pylist([], schema))  # the schema is written with the first batch

    def append(self, table: pa.Table) -> None:
        """Write rows, and wait until they are on the disk; raises `OSError` if that fails."""
        for batch in table.combine_chunks().to_batches():
            self._write(batch)

    def _write(self, batch: pa.RecordBatch) -> None:
        self._stream.write_batch(batch, custom_metadata={_CHECKSUM: _checksum(batch)})
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; what a full disk did not take is dropped."""
        with suppress(OSError):
            self._stream.close()
        with suppress(OSError):
            self._file.close()


def journal_path(path: Path) -> Path:
    """Where the journal of the table in the file `path` lies: hidden, next to it."""
    return path.with_name(f".{path.stem}.part")


def read_schema(path: Path) -> pa.Schema:
    """The schema of a journal.

    Raises:
        pa.ArrowInvalid: the file is no journal.
        ValueError: it has columns of other types than journals have.
        OSError: it cannot be read.
    """
    with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
        check_types(stream.schema)
        return stream.schema


def read_batches(path: Path, before: int | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of a journal, a batch at a time, each row as it was written last; raises as `read_schema` does.

    Args:
        path: of the journal.
        before: leave out rows with this key or a higher one.
    """
    limits = [_keys(batch)[0] for batch in _stored(path)]
    limits.append(np.inf if before is None else before)
    lowest = list(accumulate(reversed(limits), min))[::-1]
    for batch, limit in zip(_stored(path), lowest[1:], strict=True):
        rows = int(np.searchsorted(_keys(batch), limit))
        if rows:
            yield batch.slice(0, rows)


def _keys(batch: pa.RecordBatch) -> np.ndarray:
    return batch.column(0).to_numpy(zero_copy_only=False)


def _stored(path: Path) -> Iterator[pa.RecordBatch]:
    """The batches of the file, up to the first that is damaged, or that asks for more memory than the file may."""
    needed_bytes = 0
    with pa.OSFile(str(path)) as file, pa.OSFile(str(path)) as again, pa.ipc.open_stream(file) as stream:
        messages = pa.ipc.MessageReader.open_stream(again)
        messages.read_next_message()  # the schema
        while True:
            try:
                needed_bytes += batch_bytes(messages.read_next_message())
                check_unfolded(path, needed_bytes)
                batch, metadata = stream.read_next_batch_with_custom_metadata()
                batch.validate(full=True)
                whole = metadata[_CHECKSUM] == _checksum(batch)
            except (StopIteration, pa.ArrowException, OSError, KeyError, TypeError, ValueError, struct.error):
                return
            if not whole:
                return
            if batch.num_rows:
                yield batch


def _checksum(batch: pa.RecordBatch) -> bytes:
    return b"%08x" % zlib.crc32(batch.serialize())
