from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vitmalis.errors import UserError
from vitmalis.instance_masks import MASK_SIDE, quantized
from vitmalis.records import (
    FrameRecord,
    OffloadRecord,
    RecordsInfo,
    read_frames,
    read_info,
    read_offloads,
    schema_of,
    write_frames,
    write_offloads,
)
from vitmalis.types import Detections

INFO = RecordsInfo(policy="trackb2b", clip="market1906", trace="4g_00")
TWO = Detections.of([[1, 2, 3, 4], [5.5, 6, 7, 8]], [0.9, 0.25], [0, 2])


def same(a: FrameRecord | OffloadRecord, b: FrameRecord | OffloadRecord) -> bool:
    plain = all(getattr(a, f.name) == getattr(b, f.name) for f in dataclasses.fields(a) if f.name != "detections")
    arrays = ("boxes_xyxy", "scores", "labels")
    return plain and all(np.array_equal(getattr(a.detections, n), getattr(b.detections, n)) for n in arrays)


def test_frames_come_back_as_written(tmp_path: Path) -> None:
    rows = [
        FrameRecord(frame_index=0, capture_time_s=0.0, render_time_s=0.0625),
        FrameRecord(frame_index=1, capture_time_s=0.0625, render_time_s=0.125, captured=False, source="stale"),
        FrameRecord(
            frame_index=2,
            capture_time_s=0.125,
            render_time_s=0.1875,
            source="tracker",
            result_frame_index=0,
            shown_frame_index=2,
            detections=TWO,
            tracking_s=0.004,
        ),
    ]
    write_frames(tmp_path / "frames.parquet", rows, INFO)
    back = read_frames(tmp_path / "frames.parquet")
    assert len(back) == 3
    assert all(same(a, b) for a, b in zip(rows, back, strict=True))
    assert read_info(tmp_path / "frames.parquet") == INFO


def test_frames_of_before_a_column_was_added_have_its_default(tmp_path: Path) -> None:
    path = tmp_path / "frames.parquet"
    write_frames(path, [FrameRecord(frame_index=0, capture_time_s=0.0, render_time_s=0.0625, declined=True)], INFO)
    assert [frame.declined for frame in read_frames(path)] == [True]
    pq.write_table(pq.read_table(path).drop_columns(["declined"]), path)
    assert [frame.declined for frame in read_frames(path)] == [False]


def test_masks_come_back_as_written_and_take_a_column_in_runs_that_have_some(tmp_path: Path) -> None:
    path = tmp_path / "frames.parquet"
    masks = quantized(np.random.default_rng(0).random((2, MASK_SIDE, MASK_SIDE)))
    masked = dataclasses.replace(TWO, masks=masks)
    frames = [
        FrameRecord(frame_index=index, capture_time_s=0.0, render_time_s=0.0, detections=shown)
        for index, shown in enumerate((Detections.empty(), masked, masked.select(np.array([], int))))
    ]
    write_frames(path, frames, INFO)
    back = [frame.detections.masks for frame in read_frames(path)]
    assert back[0] is None
    np.testing.assert_array_equal(back[1], masks)
    assert np.shape(back[2]) == (0, MASK_SIDE, MASK_SIDE), "a result without objects, of a model that finds masks"
    assert len(pq.read_table(path).column("masks")[1].as_py()) == 2 * 49
    write_frames(path, frames[:1], INFO)
    assert "masks" not in pq.read_schema(path).names
    assert len(read_frames(path)) == 1


@pytest.mark.parametrize("words", [[1] * 49, [1] * 97, [None] * 98])
def test_masks_that_are_not_those_of_the_boxes_are_damage(words: list[int | None], tmp_path: Path) -> None:
    path = tmp_path / "frames.parquet"
    masked = dataclasses.replace(TWO, masks=TWO.masks_or_boxes)
    write_frames(path, [FrameRecord(frame_index=0, capture_time_s=0.0, render_time_s=0.0, detections=masked)], INFO)
    table = pq.read_table(path)
    place = table.column_names.index("masks")
    column = pa.array([words], pa.list_(pa.int64()))
    pq.write_table(table.set_column(place, table.schema.field(place), column), path)
    with pytest.raises(UserError, match=r"frames\.parquet: the file is damaged"):
        read_frames(path)


def test_offloads_come_back_with_their_gaps(tmp_path: Path) -> None:
    rows = [
        OffloadRecord(offload_id=0, frame_index=0, start_time_s=0.0, status="lost", reason="timeout"),
        OffloadRecord(
            offload_id=1, frame_index=9, start_time_s=0.5, payload_bytes=1000, e2e_latency_s=0.25, detections=TWO
        ),
    ]
    write_offloads(tmp_path / "offloads.parquet", rows, INFO)
    back = read_offloads(tmp_path / "offloads.parquet")
    assert all(same(a, b) for a, b in zip(rows, back, strict=True))
    assert back[0].e2e_latency_s is None


def test_an_empty_run_has_files_too(tmp_path: Path) -> None:
    write_offloads(tmp_path / "offloads.parquet", [], INFO)
    assert read_offloads(tmp_path / "offloads.parquet") == []


@pytest.mark.parametrize("row_type", [FrameRecord, OffloadRecord])
def test_every_column_says_its_unit_and_meaning(row_type: type, tmp_path: Path) -> None:
    for field in schema_of(row_type):
        assert set(field.metadata) == {b"unit", b"description"}
        assert all(field.metadata.values())
        if field.name.endswith("_s"):
            assert field.metadata[b"unit"] == b"s"


def test_units_survive_in_the_file(tmp_path: Path) -> None:
    write_offloads(tmp_path / "offloads.parquet", [], INFO)
    stored = pq.read_schema(tmp_path / "offloads.parquet")
    assert stored.field("uplink_mbps").metadata[b"unit"] == b"Mbps"


def test_missing_and_foreign_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.parquet: no such file"):
        read_frames(tmp_path / "gone.parquet")
    (tmp_path / "text.parquet").write_text("hello")
    with pytest.raises(UserError, match=r"text\.parquet: the file is damaged or of another kind"):
        read_frames(tmp_path / "text.parquet")
    write_offloads(tmp_path / "offloads.parquet", [], INFO)
    with pytest.raises(UserError, match="not a file of FrameRecords"):
        read_frames(tmp_path / "offloads.parquet")


def test_another_schema_version_is_refused(tmp_path: Path) -> None:
    old = dataclasses.replace(INFO, schema_version=0)
    write_frames(tmp_path / "frames.parquet", [], old)
    with pytest.raises(UserError, match="schema version 0"):
        read_frames(tmp_path / "frames.parquet")
