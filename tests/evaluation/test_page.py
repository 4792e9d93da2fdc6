"""The page of a run that has none, made from the run's folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.evaluation.finished_folder import finished_folder
from tests.run.page.small_run import FRAMES, OFFLOADS, PERSON, small_run
from vitmalis.records import FRAMES_FILE, OFFLOADS_FILE, RecordsInfo, write_frames, write_offloads
from vitmalis.types import Detections
from vitmalis_jobs.evaluation.finished_run import ReferenceChoice
from vitmalis_jobs.evaluation.page import main
from vitmalis_jobs.evaluation.played_run import played_run
from vitmalis_jobs.run.config import composed
from vitmalis_jobs.run.directory import RunDirectory
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


def test_the_page_shows_the_metrics_that_the_run_has_published(folder: Path) -> None:
    """Of two devices these are means, and the folder's own records are those of the first one alone."""
    assert played_run(folder).metrics["offloads"] == 2.0
    published = {"rendering_f1": 0.25, "offloads": 1.5}
    RunDirectory(folder).write_summary("FINISHED", published)
    assert run_document(played_run(folder)).metrics == published
    RunDirectory(folder).write_summary("KILLED", {})
    assert played_run(folder).metrics["offloads"] == 2.0


def test_the_page_says_how_the_run_was_configured(folder: Path) -> None:
    options = ["policy=fixed", "policy.quality=60", "devices.count=2", "clock=virtual", "latency=paper_testbed"]
    (folder / "config.yaml").write_bytes(msgspec.yaml.encode(composed(options)))
    facts = played_run(folder, ReferenceChoice(wanted=False)).facts
    assert facts["clip"] == "clip: 4 frames at 10 FPS, 320x160"
    assert facts["trace"].startswith("4g_00")
    assert facts["trace"].endswith("mean 8.0 Mbps, RTT 20 ms in the 0.4 s that are played")
    assert "quality 60" in facts["policy"]
    assert facts["devices"].startswith("2 on one server; metrics are means over them")
    assert facts["clock"] == "virtual, durations paper_testbed"


def test_no_code_of_another_package_is_imported_for_a_page(folder: Path) -> None:
    config = composed(["policy=fixed"])
    foreign = msgspec.structs.replace(config, policy={"name": "mine", "_target_": "nowhere.Mine", "pace": 3})
    (folder / "config.yaml").write_bytes(msgspec.yaml.encode(foreign))
    assert played_run(folder, ReferenceChoice(wanted=False)).facts["policy"] == "mine (pace 3)"


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
