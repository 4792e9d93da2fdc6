"""The page of a run that has none, made from the run's folder."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.run.page.small_run import DECISION, FRAMES, OFFLOADS, small_run, write_clip
from vitmalis.client.session import SESSION_FILE, write_session
from vitmalis.network.traces import constant_trace
from vitmalis.records import RecordsInfo, write_run
from vitmalis_jobs.evaluation.page import main
from vitmalis_jobs.run.config import composed
from vitmalis_jobs.run.directory import RunDirectory
from vitmalis_jobs.run.page.build import run_document
from vitmalis_jobs.run.page.files import read_page
from vitmalis_jobs.run.trace_file import write_trace


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a run leaves in its folder with output.page=false."""
    write_clip(tmp_path / "clip.mp4")
    folder = tmp_path / "run"
    write_run(folder, RecordsInfo(policy="vitmalis", clip="clip"), FRAMES, OFFLOADS, [DECISION])
    write_session(small_run(tmp_path / "clip.mp4").session, folder / SESSION_FILE)
    write_trace(constant_trace(8.0, 20.0), folder)
    (folder / "config.yaml").write_bytes(msgspec.yaml.encode(composed(["policy=vitmalis", "output.page=false"])))
    RunDirectory(folder).write_summary("FINISHED", {}, stand_ins={"video": "grey frames"})
    return folder


def test_a_folder_gives_the_page_that_the_run_would_have(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([str(folder), "--no-reference"]) == 0
    assert capsys.readouterr().out.strip() == str(folder / "run.html")
    page = read_page(folder / "run.html")
    expected = run_document(small_run(tmp_path / "clip.mp4"))
    assert page.video.data
    assert not page.document.has_references
    assert page.document.stand_ins == expected.stand_ins
    assert page.document.clip == expected.clip
    assert page.document.capacity is not None
    assert (page.document.capacity.uplink_mbps, page.document.capacity.rtt_ms) == ([8.0], [20.0])
    assert [offload.decision for offload in page.document.offloads] == [o.decision for o in expected.offloads]


def test_a_folder_without_records_has_no_page(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "frames.parquet").unlink()
    assert main([str(folder), "--no-reference"]) == 2
    assert "frames.parquet: no such file; did the run finish?" in capsys.readouterr().err
