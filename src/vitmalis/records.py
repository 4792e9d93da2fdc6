"""The records of a run: one row per frame, offload and explained decision, in Parquet files.

Every metric, plot and table is computed from these rows and from nothing else. A column is declared once, with the
attribute it stores, with its type, unit and meaning; the Parquet schema carries all three. Arrays are stored as flat
lists, `Detections` as three columns: `boxes_xyxy` (flat, 4 numbers a box), `scores` and `labels`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vitmalis.columns import column
from vitmalis.errors import UserError
from vitmalis.explanation import REGION_COLUMNS, DecisionExplanation
from vitmalis.paths import atomic_path
from vitmalis.table_journal import journal_path, read_batches, read_schema
from vitmalis.types import BoxSource, Detections, OffloadStatus
from vitmalis.untrusted_files import damage_reported

SCHEMA_VERSION = 2
FRAMES_FILE = "frames.parquet"
OFFLOADS_FILE = "offloads.parquet"
DECISIONS_FILE = "decisions.parquet"
ENDINGS = ("complete", "interrupted", "failed")
"""How a run can end; the rows of all but the first end early."""

_ARROW_TYPES = {int: pa.int64(), float: pa.float64(), bool: pa.bool_(), str: pa.string()}
_DETECTION_COLUMNS = (
    ("boxes_xyxy", pa.list_(pa.float32()), "px", "x1, y1, x2, y2 of each box, one after another"),
    ("scores", pa.list_(pa.float32()), "1", "confidence of each box, 0..1"),
    ("labels", pa.list_(pa.int64()), "class", "index of each box's class in COCO_CLASSES"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameRecord:
    """What the user saw on one frame of the clip; frames lost by the camera have a row, too."""

    frame_index: int = column("frame", "position in the played part of the clip, from 0")
    capture_time_s: float = column("s", "capture of this frame on the run's clock")
    render_time_s: float = column("s", "when these boxes were shown, on the run's clock")
    captured: bool = column("1", "false: the camera buffer was full and the frame was lost", True)
    source: str = column("name", f"where the shown boxes come from: {', '.join(BoxSource)}", BoxSource.NONE)
    result_frame_index: int = column("frame", "offloaded frame the shown boxes stem from, -1 for none", -1)
    shown_frame_index: int = column("frame", "frame the shown boxes were computed for, -1 for none", -1)
    detections: Detections = field(default_factory=Detections.empty)
    tracking_s: float | None = column("s", "tracker time spent for this frame", None)


@dataclass(frozen=True, slots=True, kw_only=True)
class OffloadRecord:
    """Configuration, cost and result of one offload; a lost offload has None for what is unknown."""

    offload_id: int = column("1", "number of the offload, from 0")
    frame_index: int = column("frame", "the offloaded frame")
    status: str = column("name", f"how it ended: {', '.join(OffloadStatus)}", OffloadStatus.OK)
    reason: str = column("text", "why it was lost or failed, else empty", "")
    tau_d: int = column("1", "what was downsampled: 0 nothing, 1 CMRs, 2 CMRs and SBRs", 0)
    quality: int = column("1", "JPEG quality lambda, 1..100", 95)
    restoration_point: int = column("1", "beta, 0..N", 0)
    downsampled_regions: int = column("region", "N_d, decision regions sent at low resolution", 0)
    regions: int = column("region", "decision regions of the frame", 0)
    blank_regions: int = column("region", "decision regions painted flat", 0)
    frame_downsampling: int = column("1", "how much smaller the whole frame was sent, along each axis", 1)
    payload_bytes: int | None = column("byte", "compressed frame on the wire", None)
    start_time_s: float = column("s", "start of encoding on the run's clock")
    decision_s: float | None = column("s", "time the policy took to decide", None)
    motion_s: float | None = column("s", "motion analysis of the frame that the decision knew", None)
    estimation_s: float | None = column("s", "share of decision_s that estimated candidates", None)
    optimization_s: float | None = column("s", "share of decision_s that chose among them", None)
    decision_reason: str | None = column("name", "why this configuration: see decisions", None)
    estimated_payload_bytes: float | None = column("byte", "what payload_bytes was expected to be", None)
    estimated_e2e_latency_s: float | None = column("s", "what e2e_latency_s was expected to be", None)
    estimated_f1: float | None = column("1", "inference accuracy that was expected, 0..1", None)
    encode_s: float | None = column("s", "packing and compression", None)
    transfer_s: float | None = column("s", "payload passing the uplink, without propagation", None)
    uplink_s: float | None = column("s", "sending to complete arrival at the server", None)
    downlink_s: float | None = column("s", "result leaving the server to its arrival", None)
    network_s: float | None = column("s", "uplink and downlink together", None)
    queue_s: float | None = column("s", "waiting at the server", None)
    decode_s: float | None = column("s", "decompression and unpacking", None)
    inference_s: float | None = column("s", "the model's forward pass with pre- and postprocessing", None)
    e2e_latency_s: float | None = column("s", "start of encoding to arrival of the result", None)
    rtt_s: float | None = column("s", "both propagation delays together", None)
    uplink_mbps: float | None = column("Mbps", "throughput this upload saw", None)
    detections: Detections = field(default_factory=Detections.empty)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRecord:
    """Why an offload was configured as it was, from a policy that weighs candidates."""

    offload_id: int = column("1", "number of the offload, from 0")
    frame_index: int = column("frame", "the offloaded frame")
    explanation: DecisionExplanation


@dataclass(frozen=True, slots=True)
class RecordsInfo:
    """Metadata of a file of records: the run it belongs to."""

    policy: str
    clip: str
    trace: str = ""
    clock: str = "realtime"
    ended: str = "complete"
    schema_version: int = SCHEMA_VERSION


Record = FrameRecord | OffloadRecord | DecisionRecord
RECORD_FILES: dict[type[Record], str] = {
    OffloadRecord: OFFLOADS_FILE,
    DecisionRecord: DECISIONS_FILE,
    FrameRecord: FRAMES_FILE,
}
"""The file of each record type, in the order they are written: a run with frames has its other records, too."""


def schema_of(row_type: type[Record]) -> pa.Schema:
    """Build the Parquet schema of a record type; each field's metadata has `unit` and `description`."""
    return pa.schema(_arrow_fields(row_type))


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


def read_frames(path: Path) -> list[FrameRecord]:
    """Read frame records in the order written; raises `UserError` for a missing or foreign file."""
    with _reading(path):
        return [FrameRecord(**values) for values in _read(path, FrameRecord)]


def read_offloads(path: Path) -> list[OffloadRecord]:
    """Read offload records in the order written; raises `UserError` for a missing or foreign file."""
    with _reading(path):
        return [OffloadRecord(**values) for values in _read(path, OffloadRecord)]


def read_decisions(path: Path) -> list[DecisionRecord]:
    """Read decision records in the order written; raises `UserError` for a missing or foreign file."""
    with _reading(path):
        return [_decision(values) for values in _read(path, DecisionRecord)]


def read_info(path: Path) -> RecordsInfo:
    """Read the metadata of a file of records; raises `UserError` for a missing or foreign file."""
    with _reading(path):
        return _info(path, _read_table(path))


def _arrow_fields(row_type: type) -> Iterator[pa.Field]:
    """Columns that a dataclass is stored in, in the order of its attributes."""
    annotations = get_type_hints(row_type)
    for f in dataclasses.fields(row_type):
        annotation = annotations[f.name]
        if annotation is Detections:
            for name, kind, unit, description in _DETECTION_COLUMNS:
                yield pa.field(name, kind, nullable=False, metadata={"unit": unit, "description": description})
        elif annotation is DecisionExplanation:
            rows = {"unit": "region", "description": "rows of decision regions; lists over regions are in raster order"}
            yield pa.field("region_rows", pa.int64(), nullable=False, metadata=rows)
            yield from _arrow_fields(DecisionExplanation)
        else:
            kind, nullable = _arrow_type(annotation)
            yield pa.field(f.name, kind, nullable, dict(f.metadata))


def _arrow_type(annotation: Any) -> tuple[pa.DataType, bool]:
    """Type of the column behind an annotation, and whether it may be null."""
    if get_origin(annotation) is np.ndarray:
        return pa.list_(pa.int64() if issubclass(_number(annotation), np.integer) else pa.float64()), False
    arguments = get_args(annotation)
    return (_ARROW_TYPES[arguments[0]], True) if NoneType in arguments else (_ARROW_TYPES[annotation], False)


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
        else:
            values[f.name] = value.ravel().tolist() if isinstance(value, np.ndarray) else value
    return values


def _decision(values: dict[str, Any]) -> DecisionRecord:
    """The row whose values by column these are: arrays have the declared dtype, those over regions rows and columns."""
    own = {name: values.pop(name) for name in ("offload_id", "frame_index")}
    rows, tracked = values.pop("region_rows"), values.pop("detections")
    for name, annotation in get_type_hints(DecisionExplanation).items():
        if get_origin(annotation) is np.ndarray:
            array = np.array(values[name], _number(annotation))
            values[name] = array.reshape(rows, -1) if name in REGION_COLUMNS else array
    return DecisionRecord(**own, explanation=DecisionExplanation(**values, tracked=tracked))


def record_schema(row_type: type[Record], info: RecordsInfo) -> pa.Schema:
    """The schema of a record type with the metadata of a run."""
    metadata = {f"vitmalis.{key}": str(value) for key, value in dataclasses.asdict(info).items()}
    return schema_of(row_type).with_metadata(metadata)


def record_table(row_type: type[Record], rows: Iterable[Record], info: RecordsInfo) -> pa.Table:
    """Records as an Arrow table, with the metadata of their run."""
    return pa.Table.from_pylist([_values(row) for row in rows], schema=record_schema(row_type, info))


def _write(path: Path, row_type: type[Record], rows: Iterable[Record], info: RecordsInfo) -> None:
    table = record_table(row_type, rows, info)
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def has_records(path: Path) -> bool:
    """Whether a record file, or the journal that a killed client has left in its place, can be read."""
    return path.is_file() or journal_path(path).is_file()


def _read_journal(path: Path) -> pa.Table:
    return pa.Table.from_batches(read_batches(path), schema=read_schema(path))


def _read_table(path: Path) -> pa.Table:
    if not has_records(path):
        raise UserError(f"records {path}: no such file; did the run finish?")
    if not path.is_file():
        return _read_journal(journal_path(path))
    with pq.ParquetFile(path) as file:  # not read_table, which takes columns from folders named `key=value`
        return file.read()


def _reading(path: Path) -> AbstractContextManager[None]:
    return damage_reported(f"records {path}", "make the run again")


def _info(path: Path, table: pa.Table) -> RecordsInfo:
    stored = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
    values = {key.removeprefix("vitmalis."): value for key, value in stored.items() if key.startswith("vitmalis.")}
    version = int(values.pop("schema_version", -1))
    if version != SCHEMA_VERSION:
        raise UserError(f"records {path}: schema version {version}, this code reads {SCHEMA_VERSION}; run it again")
    return RecordsInfo(**values, schema_version=version)


def _read(path: Path, row_type: type[Record]) -> Iterator[dict[str, Any]]:
    """Values of each row by column, with `detections` in place of their three columns."""
    table = _read_table(path)
    _info(path, table)
    schema = schema_of(row_type)
    missing: Sequence[str] = sorted(set(schema.names) - set(table.column_names))
    if missing:
        raise UserError(f"records {path}: not a file of {row_type.__name__}s (no column {missing[0]!r})")
    for values in table.select(schema.names).cast(schema).to_pylist():
        values["detections"] = Detections.of(*(values.pop(name) for name, *_ in _DETECTION_COLUMNS))
        yield values
