"""Conversion of records to Arrow tables and back.

The schema follows from the declared columns, whose type, unit and meaning it carries. Arrays are stored as flat lists,
`Detections` as columns `boxes_xyxy` (flat, 4 numbers a box), `scores` and `labels`, and `masks` in runs that have some.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Set
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
import pyarrow as pa

from vitmalis.explanation import REGION_COLUMNS, DecisionExplanation
from vitmalis.instance_masks import packed, unpacked
from vitmalis.records.rows import DecisionRecord, FrameRecord, OffloadRecord, Record, RecordsInfo
from vitmalis.types import Detections

_ARROW_TYPES = {int: pa.int64(), float: pa.float64(), bool: pa.bool_(), str: pa.string()}
_DETECTION_COLUMNS = (
    ("boxes_xyxy", pa.list_(pa.float32()), "px", "x1, y1, x2, y2 of each box, one after another"),
    ("scores", pa.list_(pa.float32()), "1", "confidence of each box, 0..1"),
    ("labels", pa.list_(pa.int64()), "class", "index of each box's class in COCO_CLASSES"),
)
_MASKS = "masks"
_OPTIONAL = (_MASKS, "cached_regions", "undelivered")
"""Nullable columns that a file lacks where no row has a value in them."""
_MASK_WORD = np.dtype("<i8")
_MASKS_METADATA = {
    "unit": "16 pixels",
    "description": "28x28 pixels in each box by rows, 4 bits each, 49 little-endian numbers a mask; 8..15: the object",
}


RecordT = TypeVar("RecordT", FrameRecord, OffloadRecord, DecisionRecord)


def schema_of(row_type: type[Record]) -> pa.Schema:
    """Build the schema of a record type; each field's metadata has `unit` and `description`."""
    return pa.schema(_arrow_fields(row_type))


def record_schema(row_type: type[Record], info: RecordsInfo) -> pa.Schema:
    """The schema of a record type with the metadata of a run."""
    metadata = {f"vitmalis.{key}": str(value) for key, value in dataclasses.asdict(info).items()}
    return schema_of(row_type).with_metadata(metadata)


def file_schema(schema: pa.Schema, filled: Set[str]) -> pa.Schema:
    """The schema of the file for rows with values in these columns: without the optional ones that are empty."""
    empty = {field.name for field in schema if field.nullable and field.name in _OPTIONAL} - filled
    return pa.schema([field for field in schema if field.name not in empty], schema.metadata)


def filled_columns(table: pa.Table | pa.RecordBatch) -> set[str]:
    """Names of the columns in which any row has a value."""
    return {name for name in table.schema.names if table.column(name).null_count < len(table)}


def record_table(row_type: type[Record], rows: Iterable[Record], info: RecordsInfo) -> pa.Table:
    """Records as an Arrow table, with the metadata of their run."""
    return pa.Table.from_pylist([_values(row) for row in rows], schema=record_schema(row_type, info))


def record_rows(row_type: type[RecordT], table: pa.Table) -> Iterator[RecordT]:
    """The rows of a table with the columns of a record type; raises an exception if values do not fit them.

    A column that the table lacks has its default in every row; without one, there is an exception.
    """
    schema = pa.schema(field for field in schema_of(row_type) if field.name in table.column_names)
    for values in table.select(schema.names).cast(schema).to_pylist():
        words = values.pop(_MASKS, None)
        masks = None if words is None else unpacked(np.array(words, _MASK_WORD).tobytes())
        boxes, scores, labels = (values.pop(name) for name, *_ in _DETECTION_COLUMNS)
        values["detections"] = Detections.of(boxes, scores, labels, masks)
        yield row_type(**(_decision_values(values) if row_type is DecisionRecord else values))


def _arrow_fields(row_type: type) -> Iterator[pa.Field]:
    """Columns that a dataclass is stored in, in the order of its attributes."""
    annotations = get_type_hints(row_type)
    for f in dataclasses.fields(row_type):
        annotation = annotations[f.name]
        if annotation is Detections:
            for name, kind, unit, description in _DETECTION_COLUMNS:
                yield pa.field(name, kind, nullable=False, metadata={"unit": unit, "description": description})
            yield pa.field(_MASKS, pa.list_(pa.int64()), metadata=_MASKS_METADATA)
        elif annotation is DecisionExplanation:
            rows = {"unit": "region", "description": "rows of decision regions; lists over regions are in raster order"}
            yield pa.field("region_rows", pa.int64(), nullable=False, metadata=rows)
            yield from _arrow_fields(DecisionExplanation)
        else:
            kind, nullable = _arrow_type(annotation)
            yield pa.field(f.name, kind, nullable, dict(f.metadata))


def _arrow_type(annotation: Any) -> tuple[pa.DataType, bool]:
    """Type of the column behind an annotation, and whether it may be null."""
    declared, nullable = _not_none(annotation)
    if get_origin(declared) is np.ndarray:
        return pa.list_(pa.int64() if issubclass(_number(declared), np.integer) else pa.float64()), nullable
    return _ARROW_TYPES[declared], nullable


def _not_none(annotation: Any) -> tuple[Any, bool]:
    """The type that a value has which is not None, and whether it may be None."""
    arguments = get_args(annotation)
    return (arguments[0], True) if NoneType in arguments else (annotation, False)


def _number(annotation: Any) -> type[np.number]:
    """Type of an array's elements, by the array's annotation."""
    (number,) = get_args(get_args(annotation)[1])
    return number


def _values(row: Record | DecisionExplanation) -> dict[str, Any]:
    """Values of a row by column."""
    values: dict[str, Any] = {}
    for f in dataclasses.fields(row):
        value = getattr(row, f.name)
        if isinstance(value, DecisionExplanation):
            values |= {"region_rows": len(value.region_types)} | _values(value)
        elif isinstance(value, Detections):
            arrays = (value.boxes_xyxy.reshape(-1), value.scores, value.labels)
            values |= {name: array for (name, *_), array in zip(_DETECTION_COLUMNS, arrays, strict=True)}
            values[_MASKS] = None if value.masks is None else np.frombuffer(packed(value.masks), _MASK_WORD)
        else:
            values[f.name] = value.ravel().tolist() if isinstance(value, np.ndarray) else value
    return values


def _decision_values(values: dict[str, Any]) -> dict[str, Any]:
    """Attributes of a decision: its arrays have the declared dtype, those over regions rows and columns."""
    own = {name: values.pop(name) for name in ("offload_id", "frame_index")}
    rows, tracked = values.pop("region_rows"), values.pop("detections")
    for name, annotation in get_type_hints(DecisionExplanation).items():
        declared, _ = _not_none(annotation)
        if get_origin(declared) is np.ndarray and values.get(name) is not None:
            array = np.array(values[name], _number(declared))
            values[name] = array.reshape(rows, -1) if name in REGION_COLUMNS else array
    return own | {"explanation": DecisionExplanation(**values, tracked=tracked)}
