"""What a run writes: one row a frame, an offload and an explained decision, as Parquet with declared columns.

Every metric, plot and table is computed from these rows and from nothing else. A column is declared once, beside the
attribute it stores, with its type, unit and meaning; the Parquet schema carries all three. `Detections` are stored as
three columns: `boxes_xyxy` (flat, 4 numbers a box), `scores` and `labels`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from vitmalis.errors import UserError
from vitmalis.paths import atomic_path
from vitmalis.types import Detections

SCHEMA_VERSION = 2
FRAMES_FILE = "frames.parquet"
OFFLOADS_FILE = "offloads.parquet"
DECISIONS_FILE = "decisions.parquet"
SOURCES = ("remote", "tracker", "stale", "none")
"""Where rendered boxes come from: the server's result for this very frame, the local tracker, an older result shown
unmoved, nothing yet."""
STATUSES = ("ok", "lost", "failed")
ENDINGS = ("complete", "interrupted", "failed")
"""How a run ended; rows of all but the first stop where it did."""

_INT, _FLOAT, _BOOL, _TEXT = pa.int64(), pa.float64(), pa.bool_(), pa.string()
_INTS, _FLOATS = pa.list_(pa.int64()), pa.list_(pa.float64())
_DETECTION_COLUMNS = (
    ("boxes_xyxy", pa.list_(pa.float32()), "px", "x1, y1, x2, y2 of each box, one after another"),
    ("scores", pa.list_(pa.float32()), "1", "confidence of each box, 0..1"),
    ("labels", pa.list_(pa.int64()), "class", "index of each box's class in COCO_CLASSES"),
)
_OPTIONAL = object()


def _column(kind: pa.DataType, unit: str, meaning: str, default: Any = dataclasses.MISSING) -> Any:
    nullable = default is _OPTIONAL
    metadata = {"type": kind, "unit": unit, "description": meaning, "nullable": nullable}
    return field(default=None if nullable else default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameRecord:
    """What the user saw at one frame of the clip; lost frames have a row too."""

    frame_index: int = _column(_INT, "frame", "position in the played part of the clip, from 0")
    capture_time_s: float = _column(_FLOAT, "s", "capture of this frame on the run's clock")
    render_time_s: float = _column(_FLOAT, "s", "when these boxes were shown, on the run's clock")
    captured: bool = _column(_BOOL, "1", "false: the camera buffer was full and the frame was lost", True)
    source: str = _column(_TEXT, "name", f"where the shown boxes come from: {', '.join(SOURCES)}", "none")
    result_frame_index: int = _column(_INT, "frame", "offloaded frame the shown boxes stem from, -1 for none", -1)
    shown_frame_index: int = _column(_INT, "frame", "frame the shown boxes were computed for, -1 for none", -1)
    detections: Detections = field(default_factory=Detections.empty)
    tracking_s: float | None = _column(_FLOAT, "s", "tracker time spent for this frame", _OPTIONAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class OffloadRecord:
    """What one offload was, cost and returned; a value is None where a lost offload has none."""

    offload_id: int = _column(_INT, "1", "number of the offload, from 0")
    frame_index: int = _column(_INT, "frame", "the offloaded frame")
    status: str = _column(_TEXT, "name", f"how it ended: {', '.join(STATUSES)}", "ok")
    reason: str = _column(_TEXT, "text", "why it was lost or failed, else empty", "")
    tau_d: int = _column(_INT, "1", "what was downsampled: 0 nothing, 1 CMRs, 2 CMRs and SBRs", 0)
    quality: int = _column(_INT, "1", "JPEG quality lambda, 1..100", 95)
    restoration_point: int = _column(_INT, "1", "beta, 0..N", 0)
    downsampled_regions: int = _column(_INT, "region", "N_d, decision regions sent at low resolution", 0)
    regions: int = _column(_INT, "region", "decision regions of the frame", 0)
    blank_regions: int = _column(_INT, "region", "decision regions painted flat", 0)
    frame_downsampling: int = _column(_INT, "1", "how much smaller the whole frame was sent, along each axis", 1)
    payload_bytes: int | None = _column(_INT, "byte", "compressed frame on the wire", _OPTIONAL)
    start_time_s: float = _column(_FLOAT, "s", "start of encoding on the run's clock")
    decision_s: float | None = _column(_FLOAT, "s", "time the policy took to decide", _OPTIONAL)
    motion_s: float | None = _column(_FLOAT, "s", "motion analysis of the frame that the decision knew", _OPTIONAL)
    estimation_s: float | None = _column(_FLOAT, "s", "share of decision_s that estimated candidates", _OPTIONAL)
    optimization_s: float | None = _column(_FLOAT, "s", "share of decision_s that chose among them", _OPTIONAL)
    decision_reason: str | None = _column(_TEXT, "name", "why this configuration: see decisions", _OPTIONAL)
    estimated_payload_bytes: float | None = _column(_FLOAT, "byte", "what payload_bytes was expected to be", _OPTIONAL)
    estimated_e2e_latency_s: float | None = _column(_FLOAT, "s", "what e2e_latency_s was expected to be", _OPTIONAL)
    estimated_f1: float | None = _column(_FLOAT, "1", "inference accuracy that was expected, 0..1", _OPTIONAL)
    encode_s: float | None = _column(_FLOAT, "s", "packing and compression", _OPTIONAL)
    transfer_s: float | None = _column(_FLOAT, "s", "payload passing the uplink, without propagation", _OPTIONAL)
    uplink_s: float | None = _column(_FLOAT, "s", "sending to complete arrival at the server", _OPTIONAL)
    downlink_s: float | None = _column(_FLOAT, "s", "result leaving the server to its arrival", _OPTIONAL)
    network_s: float | None = _column(_FLOAT, "s", "uplink and downlink together", _OPTIONAL)
    queue_s: float | None = _column(_FLOAT, "s", "waiting at the server", _OPTIONAL)
    decode_s: float | None = _column(_FLOAT, "s", "decompression and unpacking", _OPTIONAL)
    inference_s: float | None = _column(_FLOAT, "s", "the model's forward pass with pre- and postprocessing", _OPTIONAL)
    e2e_latency_s: float | None = _column(_FLOAT, "s", "start of encoding to arrival of the result", _OPTIONAL)
    rtt_s: float | None = _column(_FLOAT, "s", "both propagation delays together", _OPTIONAL)
    uplink_mbps: float | None = _column(_FLOAT, "Mbps", "throughput this upload saw", _OPTIONAL)
    detections: Detections = field(default_factory=Detections.empty)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRecord:
    """Why an offload was configured as it was, from a policy that weighs candidates; lists over them in one order."""

    offload_id: int = _column(_INT, "1", "number of the offload, from 0")
    frame_index: int = _column(_INT, "frame", "the offloaded frame")
    region_rows: int = _column(_INT, "region", "rows of decision regions; lists over regions are in raster order")
    region_types: Sequence[int] = _column(_INTS, "1", "type of each region: 0 SBR, 1 CMR, 2 DOR")
    region_motion: Sequence[float] = _column(_FLOATS, "1", "m_j of each region, 0..1")
    relevance: Sequence[float] = _column(_FLOATS, "1", "rho_j of each region, 0..1")
    frame_motion: float = _column(_FLOAT, "1", "m_f, 0..1")
    frames_since_offload: int = _column(_INT, "frame", "eta")
    retention: float = _column(_FLOAT, "1", "kappa, 0..1")
    uplink_mbps: float = _column(_FLOAT, "Mbps", "throughput expected")
    rtt_s: float = _column(_FLOAT, "s", "both propagation delays expected")
    tau_d: Sequence[int] = _column(_INTS, "1", "of each candidate: what is downsampled")
    quality: Sequence[int] = _column(_INTS, "1", "of each candidate: JPEG quality")
    restoration_point: Sequence[int] = _column(_INTS, "1", "of each candidate: beta")
    payload_bytes: Sequence[float] = _column(_FLOATS, "byte", "of each candidate: estimated size")
    e2e_latency_s: Sequence[float] = _column(_FLOATS, "s", "of each candidate: estimated latency")
    f1: Sequence[float] = _column(_FLOATS, "1", "of each candidate: estimated inference accuracy, 0..1")
    frontier: Sequence[int] = _column(_INTS, "1", "candidates on the Pareto frontier, from the fastest")
    knee: int = _column(_INT, "1", "candidate at the knee of the frontier")
    chosen: int = _column(_INT, "1", "candidate that was chosen")
    reason: str = _column(_TEXT, "name", "why: only, knee, stale (eta) or retention (kappa)")
    detections: Detections = field(default_factory=Detections.empty)  # objects known when it was decided


@dataclass(frozen=True, slots=True)
class RecordsInfo:
    """What a file of records says about its run."""

    policy: str
    clip: str
    trace: str = ""
    clock: str = "realtime"
    ended: str = "complete"
    schema_version: int = SCHEMA_VERSION


Record = FrameRecord | OffloadRecord | DecisionRecord
_Row = TypeVar("_Row", FrameRecord, OffloadRecord, DecisionRecord)


def schema_of(row_type: type[Record]) -> pa.Schema:
    """Parquet schema of a record type; each field's metadata has `unit` and `description`."""
    columns = []
    for f in dataclasses.fields(row_type):
        if f.name == "detections":
            columns += [_arrow_field(*column, nullable=False) for column in _DETECTION_COLUMNS]
        else:
            m = f.metadata
            columns.append(_arrow_field(f.name, m["type"], m["unit"], m["description"], nullable=m["nullable"]))
    return pa.schema(columns)


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
    """Write all records of a run; the frames last, so that where they are, the others are too.

    Raises:
        OSError: the folder does not take them.
    """
    write_offloads(directory / OFFLOADS_FILE, offloads, info)
    if decisions:
        write_decisions(directory / DECISIONS_FILE, decisions, info)
    write_frames(directory / FRAMES_FILE, frames, info)


def read_frames(path: Path) -> list[FrameRecord]:
    """Frame records in the order written; raises `UserError` for a missing or foreign file."""
    return _read(path, FrameRecord)


def read_offloads(path: Path) -> list[OffloadRecord]:
    """Offload records in the order written; raises `UserError` for a missing or foreign file."""
    return _read(path, OffloadRecord)


def read_decisions(path: Path) -> list[DecisionRecord]:
    """Decision records in the order written; raises `UserError` for a missing or foreign file."""
    return _read(path, DecisionRecord)


def read_info(path: Path) -> RecordsInfo:
    """What the file says about its run; raises `UserError` for a missing or foreign file."""
    return _info(path, _read_table(path))


def _arrow_field(name: str, kind: pa.DataType, unit: str, meaning: str, *, nullable: bool) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"unit": unit, "description": meaning})


def _flat(row: Record) -> dict[str, Any]:
    values = {f.name: getattr(row, f.name) for f in dataclasses.fields(row)}
    detections: Detections = values.pop("detections")
    arrays = (detections.boxes_xyxy.reshape(-1), detections.scores, detections.labels)
    return values | {name: array for (name, *_), array in zip(_DETECTION_COLUMNS, arrays, strict=True)}


def _write(path: Path, row_type: type[_Row], rows: Iterable[_Row], info: RecordsInfo) -> None:
    metadata = {f"vitmalis.{key}": str(value) for key, value in dataclasses.asdict(info).items()}
    schema = schema_of(row_type).with_metadata(metadata)
    table = pa.Table.from_pylist([_flat(row) for row in rows], schema=schema)
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def _read_table(path: Path) -> pa.Table:
    if not path.is_file():
        raise UserError(f"records {path}: no such file; did the run finish?")
    try:
        with pq.ParquetFile(path) as file:  # not read_table, which takes columns from folders named `key=value`
            return file.read()
    except pa.ArrowInvalid as error:
        raise UserError(f"records {path}: not a Parquet file ({str(error).splitlines()[0]})") from error


def _info(path: Path, table: pa.Table) -> RecordsInfo:
    stored = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
    values = {key.removeprefix("vitmalis."): value for key, value in stored.items() if key.startswith("vitmalis.")}
    version = int(values.pop("schema_version", -1))
    if version != SCHEMA_VERSION:
        raise UserError(f"records {path}: schema version {version}, this code reads {SCHEMA_VERSION}; run it again")
    return RecordsInfo(**values, schema_version=version)


def _read(path: Path, row_type: type[_Row]) -> list[_Row]:
    table = _read_table(path)
    _info(path, table)
    missing: Sequence[str] = sorted(set(schema_of(row_type).names) - set(table.column_names))
    if missing:
        raise UserError(f"records {path}: not a file of {row_type.__name__}s (no column {missing[0]!r})")
    rows = []
    for values in table.select(schema_of(row_type).names).to_pylist():
        detections = Detections.of(*(values.pop(name) for name, *_ in _DETECTION_COLUMNS))
        rows.append(row_type(**values, detections=detections))
    return rows
