"""The page of a run that has none, made from the run's folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.finished_folder import finished_folder
from tests.run.page.small_run import FRAMES, OFFLOADS, PERSON, small_run
from vitmalis.records import FRAMES_FILE, OFFLOADS_FILE, RecordsInfo, write_frames, write_offloads
from vitmalis.types import Detections
from vitmalis_jobs.evaluation.page import main
from vitmalis_jobs.evaluation.played_run import played_run
from vitmalis_jobs.run.page.build import run_document
from vitmalis_jobs.run.page.files import read_page


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return finished_folder(tmp_path)


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


INFO = RecordsInfo(policy="vitmalis", clip="clip")


def test_a_result_of_a_frame_that_a_killed_client_did_not_record_has_its_reference(folder: Path) -> None:
    late = dataclasses.replace(OFFLOADS[0], offload_id=1, frame_index=2, detections=Detections.of(*PERSON))
    write_offloads(folder / OFFLOADS_FILE, [OFFLOADS[0], late], INFO)
    write_frames(folder / FRAMES_FILE, FRAMES[:2], INFO)
    run = played_run(folder)
    assert run.references is not None
    assert len(run.references) == 3
    assert len(run_document(run).frames.f1) == 2


def test_records_that_skip_a_frame_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_frames(folder / FRAMES_FILE, [FRAMES[0], FRAMES[2]], INFO)
    assert main([str(folder), "--no-reference"]) == 2
    assert "the records skip or repeat frames: play it again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"region_map": "FLC"}, "map other regions than the 1 x 2 of the clip"),
        ({"region_map": "C"}, "map other regions than the 1 x 2 of the clip"),
        ({"second_round_of": 7}, "hold second rounds of offloads that they do not have"),
    ],
)
def test_records_with_other_regions_or_offloads_are_refused(
    changes: dict[str, Any], problem: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_offloads(folder / OFFLOADS_FILE, [dataclasses.replace(OFFLOADS[0], **changes), OFFLOADS[1]], INFO)
    assert main([str(folder), "--no-reference"]) == 2
    assert f"the records {problem}: play it again" in capsys.readouterr().err
