"""Records are on the disk while a session plays, and survive a folder that does not take them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.server.blob_server import GEOMETRY
from vitmalis.client import record_files
from vitmalis.client.events import Render
from vitmalis.client.record_files import RecordSaver
from vitmalis.client.record_journal import RecordJournal, recover_records
from vitmalis.client.recorder import Recorder
from vitmalis.client.session import ClientSession
from vitmalis.errors import UserError
from vitmalis.instance_masks import MASK_SIDE, quantized
from vitmalis.records import (
    FRAMES_FILE,
    OFFLOADS_FILE,
    OffloadRecord,
    RecordsInfo,
    read_frames,
    read_info,
    read_offloads,
)
from vitmalis.types import BoxSource, Detections
from vitmalis.video.spec import VideoSpec

VIDEO = VideoSpec("clip", "clip.mp4", 10.0, 0, 5, 320, 192)


def session(folder: Path) -> ClientSession:
    return ClientSession(video=VIDEO, server_address="", output_dir=str(folder), geometry=GEOMETRY)


def render(recorder: Recorder, first: int, last: int) -> None:
    """Render frames, each captured before, or for odd ones after it is rendered."""
    for index in range(first, last):
        if index % 2 == 0:
            recorder.captured(index, index / 10)
        recorder.rendered(Render(index, Detections.empty(), BoxSource.NONE, -1, -1), index / 10)
        if index % 2:
            recorder.captured(index, index / 10)


def saved_every(saver: RecordSaver, recorder: Recorder, frames: int, total: int) -> None:
    for first in range(0, total, frames):
        render(recorder, first, first + frames)
        saver.save()


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_files, "SAVE_S", 0.0)


def test_records_say_how_the_session_ended(tmp_path: Path) -> None:
    RecordSaver(Recorder(0.1, GEOMETRY), session(tmp_path)).finish("interrupted")
    assert read_info(tmp_path / FRAMES_FILE).ended == "interrupted"
    assert (tmp_path / OFFLOADS_FILE).is_file()


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("masked", [False, True])
def test_records_have_a_column_of_masks_once_a_result_has_some(masked: bool, tmp_path: Path) -> None:
    recorder = Recorder(0.1, GEOMETRY)
    masks = np.full((1, MASK_SIDE, MASK_SIDE), 255, np.uint8) if masked else None
    saver = RecordSaver(recorder, session(tmp_path))
    with saver:
        saved_every(saver, recorder, 7, 700)
        found = Detections.of([[0, 0, 9, 9]], [0.9], [0], masks)
        recorder.rendered(Render(700, found, BoxSource.REMOTE, 690, 700), 70.0)
    saver.finish("complete")
    frames = read_frames(tmp_path / FRAMES_FILE)
    assert (frames[700].detections.masks is not None, frames[0].detections.masks) == (masked, None)
    assert ("masks" in pq.read_schema(tmp_path / FRAMES_FILE).names) == masked
    assert "masks" not in pq.read_schema(tmp_path / OFFLOADS_FILE).names


@pytest.mark.usefixtures("always")
def test_records_saved_in_parts_are_those_of_one_piece(tmp_path: Path) -> None:
    whole, parts = Recorder(0.1, GEOMETRY), Recorder(0.1, GEOMETRY)
    render(whole, 0, 1500)
    RecordSaver(whole, session(tmp_path / "whole")).finish("complete")
    saver = RecordSaver(parts, session(tmp_path / "parts"))
    with saver:
        saved_every(saver, parts, 7, 1498)
        parts.tracked(1490, 0.5)
        parts.tracked(1490, 0.25)
        render(parts, 1498, 1500)
    assert len(parts.frames()) < 600, "older ones are on the disk only"
    saver.finish("complete")
    expected, frames = (read_frames(tmp_path / each / FRAMES_FILE) for each in ("whole", "parts"))
    assert frames[1490].tracking_s == 0.75
    assert [str(frame) for frame in frames[:1490]] == [str(frame) for frame in expected[:1490]]
    assert len(frames) == parts.frame_count == 1500
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == [FRAMES_FILE, OFFLOADS_FILE]


@pytest.mark.usefixtures("always")
def test_a_session_that_never_ended_can_be_read_and_recovered(tmp_path: Path) -> None:
    """The records of an earlier session in the folder do not get in the way."""
    render(earlier := Recorder(0.1, GEOMETRY), 0, 9)
    RecordSaver(earlier, session(tmp_path)).finish("complete")
    recorder = Recorder(0.1, GEOMETRY)
    with RecordSaver(recorder, session(tmp_path)) as saver:
        saved_every(saver, recorder, 5, 20)
    for _ in range(2):  # from the journals, and from the files made of them
        assert [frame.frame_index for frame in read_frames(tmp_path / FRAMES_FILE)] == list(range(20))
        assert all(frame.captured for frame in read_frames(tmp_path / FRAMES_FILE))
        assert read_info(tmp_path / FRAMES_FILE).ended == "failed"
        assert read_offloads(tmp_path / OFFLOADS_FILE) == []
        recover_records(tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == [FRAMES_FILE, OFFLOADS_FILE]


def test_a_folder_that_refuses_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot be written") as error:
        RecordSaver(Recorder(0.1, GEOMETRY), session(tmp_path / "file")).finish("complete")
    found = re.search(r"they are in '([^']+)'", str(error.value))
    assert found is not None
    assert read_frames(Path(found[1]) / FRAMES_FILE) == []


FULL = """
import re, resource, signal, sys
from pathlib import Path
from tests.client import test_record_files as t
from vitmalis.errors import UserError
from vitmalis.records import FRAMES_FILE, read_frames
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit then fails as on a full disk
t.record_files.SAVE_S = 0.0
recorder = t.Recorder(0.1, t.GEOMETRY)
saver = t.RecordSaver(recorder, t.session(Path(sys.argv[1])))
resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, resource.RLIM_INFINITY))
try:
    with saver:
        t.saved_every(saver, recorder, 50, 10**6)
except UserError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
saver.finish("failed")
print(len(read_frames(Path(sys.argv[1]) / FRAMES_FILE)) - recorder.frame_count)
"""


def test_a_disk_that_fills_up_ends_the_session_with_its_cause(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"records cannot be written to '{tmp_path}' (File too large)", "0"]


def test_it_is_found_out_before_the_first_frame(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="file"):
        record_files.check_output(tmp_path / "file")
    record_files.check_output(tmp_path / "new")
    assert list(tmp_path.glob("new/*")) == []


def test_a_full_disk_is_reported_with_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_files, "MIN_FREE_BYTES", 2**60)
    with pytest.raises(UserError, match="MiB are free on its disk"):
        record_files.check_output(tmp_path)


@pytest.mark.usefixtures("always")
def test_a_session_ends_while_its_records_still_find_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_files, "LOW_FREE_BYTES", 2**60)
    recorder = Recorder(0.1, GEOMETRY)
    saver = RecordSaver(recorder, session(tmp_path))
    with saver, pytest.raises(UserError, match="MiB are free on its disk"):
        saved_every(saver, recorder, 5, 10**6)
    saver.finish("failed")
    assert len(read_frames(tmp_path / FRAMES_FILE)) == recorder.frame_count


def test_masks_of_a_killed_client_are_read_from_its_journals(tmp_path: Path) -> None:
    """Also where a result of a model that finds masks has no objects."""
    masks = quantized(np.random.default_rng(0).random((1, MASK_SIDE, MASK_SIDE)))
    one = Detections.of([[0, 0, 9, 9]], [0.9], [0], masks)
    journal = RecordJournal(tmp_path, RecordsInfo(policy="trackb2b", clip="red"))
    for index, found in enumerate((Detections.empty(), one, one.above(1.0))):
        row = OffloadRecord(offload_id=index, frame_index=index, start_time_s=0.0, detections=found)
        journal.append({OffloadRecord: [row]})
    for then in (journal.close, lambda: recover_records(tmp_path), lambda: None):
        without, *others = (row.detections.masks for row in read_offloads(tmp_path / OFFLOADS_FILE))
        assert without is None
        for stored, expected in zip(others, (masks, masks[:0]), strict=True):
            np.testing.assert_array_equal(stored, expected)
        then()
    assert (tmp_path / OFFLOADS_FILE).is_file()


@pytest.mark.usefixtures("always")
def test_a_bug_in_saving_ends_the_session_and_loses_no_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ValueError("a bug")

    recorder = Recorder(0.1, GEOMETRY)
    saver = RecordSaver(recorder, session(tmp_path))
    with saver, monkeypatch.context() as patch:
        patch.setattr(RecordJournal, "append", broken)
        with pytest.raises(ValueError, match="a bug"):
            saved_every(saver, recorder, 600, 10**9)
    saver.finish("failed")
    assert [row.frame_index for row in read_frames(tmp_path / FRAMES_FILE)] == list(range(recorder.frame_count))
