"""Records survive a folder that does not take them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.server.blob_server import GEOMETRY
from vitmalis.client import record_files
from vitmalis.client.recorder import Recorder
from vitmalis.client.session import ClientSession
from vitmalis.errors import UserError
from vitmalis.records import FRAMES_FILE, OFFLOADS_FILE, read_frames, read_info
from vitmalis.video.spec import VideoSpec

VIDEO = VideoSpec("clip", "clip.mp4", 10.0, 0, 5, 320, 192)


def session(folder: Path) -> ClientSession:
    return ClientSession(video=VIDEO, server_address="", output_dir=str(folder), geometry=GEOMETRY)


def test_records_say_how_the_session_ended(tmp_path: Path) -> None:
    record_files.write_records(Recorder(0.1, GEOMETRY), session(tmp_path), "interrupted")
    assert read_info(tmp_path / FRAMES_FILE).ended == "interrupted"
    assert (tmp_path / OFFLOADS_FILE).is_file()


def test_a_folder_that_refuses_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot be written") as error:
        record_files.write_records(Recorder(0.1, GEOMETRY), session(tmp_path / "file"), "complete")
    found = re.search(r"they are in '([^']+)'", str(error.value))
    assert found is not None
    assert read_frames(Path(found[1]) / FRAMES_FILE) == []


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
