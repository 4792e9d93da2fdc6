"""The types of columns that are read: numbers, bools, text, and lists of numbers or bools."""

from __future__ import annotations

import pyarrow as pa


def check_types(schema: pa.Schema) -> None:
    """Raise `ValueError` for a column of another type: nothing here writes one, and some unfold without end."""
    for field in schema:
        kind = field.type
        if not is_text(kind) and not _is_number(kind.value_type if _is_list(kind) else kind):
            raise ValueError(f"column {field.name!r:.80} has type {kind!s:.80}")


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds text."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
