"""The memory that a batch of an Arrow stream takes once it is decompressed, by what its message claims.

pyarrow decompresses a batch as it reads it. The sizes are in the metadata of the message, a FlatBuffer that pyarrow has
verified, and at the beginning of each compressed buffer.
"""

from __future__ import annotations

import struct

import pyarrow as pa

ROW_BYTES = 512
"""Memory of a row besides its values, as the Python object that it becomes."""

_MESSAGE_HEADER = 2
_BATCH_LENGTH, _BATCH_BUFFERS, _BATCH_COMPRESSION = 0, 2, 3
_NOT_COMPRESSED = -1
"""In place of the size of a single buffer that is stored as it is."""


def batch_bytes(message: pa.ipc.Message) -> int:
    """Memory that the record batch of a message takes.

    Raises:
        ValueError: a size is negative.
        struct.error: a buffer lies outside the message.
    """
    data, body = message.metadata.to_pybytes(), memoryview(message.body)
    batch = _target(data, _field(data, _target(data, 0), _MESSAGE_HEADER))
    compressed = _field(data, batch, _BATCH_COMPRESSION) != 0
    rows_at = _field(data, batch, _BATCH_LENGTH)
    sizes = [ROW_BYTES * _int64(data, rows_at) if rows_at else 0]
    buffers = _target(data, _field(data, batch, _BATCH_BUFFERS))
    for position in range(buffers + 4, buffers + 4 + 16 * _uint32(data, buffers), 16):
        start, size = _int64(data, position), _int64(data, position + 8)
        if compressed and size:
            unfolded = _int64(body, start)
            size = size if unfolded == _NOT_COMPRESSED else unfolded
        sizes.append(size)
    if min(sizes) < 0:
        raise ValueError("a buffer has a negative size")
    return sum(sizes)


def _field(data: bytes, table: int, number: int) -> int:
    """Position of a field of a FlatBuffer table, 0 where it has its default."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    entry = 4 + 2 * number
    if entry >= struct.unpack_from("<H", data, vtable)[0]:
        return 0
    offset = struct.unpack_from("<H", data, vtable + entry)[0]
    return table + offset if offset else 0


def _target(data: bytes, position: int) -> int:
    """What the reference at a position of a FlatBuffer leads to."""
    return position + _uint32(data, position)


def _uint32(data: bytes, position: int) -> int:
    return struct.unpack_from("<I", data, position)[0]


def _int64(data: bytes | memoryview, position: int) -> int:
    return struct.unpack_from("<q", data, position)[0]
