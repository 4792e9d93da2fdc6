"""The records of a run: one row per frame, offload and explained decision, in Parquet files.

Every metric, plot and table is computed from these rows and from nothing else.
"""

from vitmalis.records.arrow import file_schema, filled_columns, record_schema, record_table, schema_of
from vitmalis.records.files import (
    has_records,
    read_decisions,
    read_frames,
    read_info,
    read_offloads,
    remove_records,
    write_decisions,
    write_frames,
    write_offloads,
    write_run,
)
from vitmalis.records.rows import (
    DECISIONS_FILE,
    ENDINGS,
    FRAMES_FILE,
    OFFLOADS_FILE,
    RECORD_FILES,
    SCHEMA_VERSION,
    DecisionRecord,
    FrameRecord,
    OffloadRecord,
    Record,
    RecordsInfo,
)

__all__ = [
    "DECISIONS_FILE",
    "ENDINGS",
    "FRAMES_FILE",
    "OFFLOADS_FILE",
    "RECORD_FILES",
    "SCHEMA_VERSION",
    "DecisionRecord",
    "FrameRecord",
    "OffloadRecord",
    "Record",
    "RecordsInfo",
    "file_schema",
    "filled_columns",
    "has_records",
    "read_decisions",
    "read_frames",
    "read_info",
    "read_offloads",
    "record_schema",
    "record_table",
    "remove_records",
    "schema_of",
    "write_decisions",
    "write_frames",
    "write_offloads",
    "write_run",
]
