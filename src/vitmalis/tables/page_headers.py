"""The headers of Parquet pages: structures in Thrift's compact encoding, of which only what pages use is read.

The reader accepts less than Thrift does (no lists and maps, ascending fields, few levels), so that a header cannot mean
one thing here and another in the decoder.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass

DATA_PAGE, DICTIONARY_PAGE = 0, 2
PLAIN, PLAIN_DICTIONARY, RLE, RLE_DICTIONARY = 0, 2, 3, 8
_ENCODINGS = frozenset({PLAIN, PLAIN_DICTIONARY, RLE, RLE_DICTIONARY})
"""Those that pyarrow writes by default; in a delta encoding of text each value may repeat the last one."""

_MAX_DEPTH = 4

_Struct = dict[int, "int | _Struct"]
"""Integers and structures by the number of their field."""


@dataclass(frozen=True, slots=True)
class PageHeader:
    """The content of a page by its own account.

    Attributes:
        is_dictionary: a dictionary of values, to which the indices in data pages refer.
        values: number of values, nulls included.
        size: bytes of the page once it is decompressed.
        end: position behind the page in the file.
    """

    is_dictionary: bool
    values: int
    size: int
    end: int


def read_page_header(data: mmap.mmap | bytes, position: int, end: int) -> PageHeader:
    """Read the header of the page that begins at a position; raises `ValueError` if it does not end before `end`."""
    reader = _CompactReader(data, position, end)
    header = reader.struct()
    kind = _number(header, 1)
    if kind not in (DATA_PAGE, DICTIONARY_PAGE):
        raise ValueError(f"a page is of type {kind}")
    page = header.get(5 if kind == DATA_PAGE else 7)
    if not isinstance(page, dict) or _number(page, 2) not in _ENCODINGS:
        raise ValueError("a page has no header of its type, or another encoding")
    size, values = _number(header, 2), _number(page, 1)
    if kind == DICTIONARY_PAGE and values > size:
        raise ValueError("a dictionary has fewer bytes than values")
    behind = reader.position + _number(header, 3)
    if behind > end:
        raise ValueError("a page ends behind its column")
    return PageHeader(kind == DICTIONARY_PAGE, values, size, behind)


def _number(fields: _Struct, field: int) -> int:
    """A count, a size or a code among the fields of a structure."""
    value = fields.get(field)
    if not isinstance(value, int) or not 0 <= value < 2**31:
        raise ValueError("the header of a page lacks a number")
    return value


class _CompactReader:
    """Reader of Thrift's compact encoding in a part of a file."""

    def __init__(self, data: mmap.mmap | bytes, position: int, end: int) -> None:
        self._data, self.position, self._end = data, position, end

    def struct(self, depth: int = 0) -> _Struct:
        """Read a structure with all its fields; raises `ValueError` if it is malformed."""
        if depth > _MAX_DEPTH:
            raise ValueError("the header of a page is nested too deeply")
        fields: _Struct = {}
        last = 0
        while head := self._byte():
            number = last + (head >> 4) if head >> 4 else _signed(self._varint())
            if number <= last:
                raise ValueError("the fields in the header of a page are not in order")
            last = number
            value = self._value(head & 0xF, depth)
            if value is not None:
                fields[number] = value
        return fields

    def _value(self, kind: int, depth: int) -> int | _Struct | None:
        """Read a value; None for one that is skipped."""
        match kind:
            case 1 | 2:  # true and false
                return None
            case 3:  # one byte
                self._skip(1)
            case 4 | 5 | 6:  # integers
                return _signed(self._varint())
            case 7:  # double
                self._skip(8)
            case 8:  # binary
                self._skip(self._varint())
            case 12:  # structure
                return self.struct(depth + 1)
            case _:
                raise ValueError(f"the header of a page has a field of type {kind}")
        return None

    def _byte(self) -> int:
        self._skip(1)
        return self._data[self.position - 1]

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 64, 7):
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise ValueError("the header of a page has a number that is too long")

    def _skip(self, count: int) -> None:
        self.position += count
        if self.position > self._end:
            raise ValueError("the header of a page does not end")


def _signed(value: int) -> int:
    """The number behind its zigzag encoding."""
    return value >> 1 ^ -(value & 1)
