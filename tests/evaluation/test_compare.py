"""Two runs next to each other: which can be compared, and what the page holds."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from tests.run.page.small_run import images, small_run, write_clip
from vitmalis.errors import UserError
from vitmalis_jobs.evaluation.compare import compare, main, names_of, page_of
from vitmalis_jobs.run.page import files
from vitmalis_jobs.run.page.build import run_document
from vitmalis_jobs.run.page.document import RunDocument
from vitmalis_jobs.run.page.files import PAGE_FILE, read_page, write_run_page


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Folders of two runs that have their pages."""
    write_clip(tmp_path / "clip.mp4")
    folders = [tmp_path / policy for policy in ("back2back", "vitmalis")]
    for folder in folders:
        write_run_page(folder / PAGE_FILE, run_document(small_run(tmp_path / "clip.mp4", policy=folder.name)), images())
    return folders


def changed(page: Path, **values: object) -> None:
    """Write a page again with other values in its document."""
    document = msgspec.structs.replace(read_page(page).document, **values)
    write_run_page(page, document, images())


def documents(page: Path) -> list[RunDocument]:
    found = re.findall(r'<script id="run-\d" type="application/json">(.*?)</script>', page.read_text())
    return [msgspec.json.decode(text, type=RunDocument) for text in found]


def test_the_page_holds_both_runs_and_one_video(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "compare.html"
    assert main([*map(str, runs), "--output", str(output)]) == 0
    assert capsys.readouterr().out.strip() == str(output)
    assert documents(output) == [page_of(str(run), "").document for run in runs]
    assert output.read_text().count('<script id="video"') == 1
    assert "<title>back2back and vitmalis on clip over 4g_00</title>" in output.read_text()


def test_pages_are_named_after_their_runs(runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pages = [page_of(str(run / PAGE_FILE), "") for run in runs]
    assert compare(*pages) == Path("runs/comparisons/clip-4g_00-back2back-vitmalis.html")


def test_runs_of_one_policy_are_named_by_its_options(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A comparison of other options is another page; without differing options names are those of the policies."""
    monkeypatch.chdir(tmp_path)
    for run, quality in zip(runs, (60, 70), strict=True):
        changed(run / PAGE_FILE, policy="fixed", facts={"policy": f"fixed (quality {quality})"})
    first, second = (page_of(str(run / PAGE_FILE), "") for run in runs)
    path = compare(first, second)
    assert path == Path("runs/comparisons/clip-4g_00-fixed-quality-60-fixed-quality-70.html")
    assert "<title>fixed (quality 60) and fixed (quality 70) on clip over 4g_00</title>" in path.read_text()
    assert names_of(first.document, first.document) == ("fixed", "fixed")


def test_a_large_video_is_copied_next_to_the_page(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_INLINE_BYTES", 100)
    changed(runs[0] / PAGE_FILE)
    pages = [page_of(str(run), "") for run in runs]
    output = compare(*pages, tmp_path / "compare.html")
    assert (tmp_path / "compare.mp4").read_bytes() == (runs[0] / "run.mp4").read_bytes()
    assert 'data-src="compare.mp4"' in output.read_text()
    (runs[0] / "run.mp4").unlink()
    with pytest.raises(UserError, match=r"its video 'run\.mp4' is not next to it"):
        compare(*pages, tmp_path / "compare.html")


def test_other_clips_traces_and_rules_are_refused(runs: list[Path]) -> None:
    page = runs[1] / PAGE_FILE
    original = read_page(page).document
    assert original.capacity is not None
    slower = msgspec.structs.replace(original.capacity, uplink_mbps=[2.0, 3.0, 2.0])
    cases = {
        r"different clips, clip \(4 frames of 320x160\) and clip": {
            "clip": msgspec.structs.replace(original.clip, digest="0")
        },
        r"different traces, 4g_00 \(4.0 Mbps at its start\) and 4g_00 \(2.0 Mbps": {"capacity": slower},
        r"different traces, 4g_00 \(4.0 Mbps at its start\) and none": {"trace": "none", "capacity": None},
        "different rules": {"iou_threshold": 0.7},
    }
    for message, values in cases.items():
        changed(page, **vars_of(original) | values)
        with pytest.raises(UserError, match=message):
            compare(page_of(str(runs[0]), ""), page_of(str(runs[1]), ""))


def vars_of(document: RunDocument) -> dict[str, object]:
    return msgspec.structs.asdict(document)
