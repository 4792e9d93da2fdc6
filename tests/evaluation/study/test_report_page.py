"""The report's page: labels of the paper, aligned tables that sort, and points that lead to the pages of their runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from tests.evaluation.study.test_study_report import write_run
from tests.run.page.browser import chromium
from tests.run.page.small_run import small_run, write_clip
from vitmalis_jobs.evaluation.study.cli import write_report
from vitmalis_jobs.evaluation.study.labels import label
from vitmalis_jobs.evaluation.study.lead import leading_sentence
from vitmalis_jobs.evaluation.study.page_table import page_columns
from vitmalis_jobs.evaluation.study.pairs import plot_document
from vitmalis_jobs.evaluation.study.runs import read_study
from vitmalis_jobs.run.page.build import run_document
from vitmalis_jobs.run.page.files import write_run_page


@pytest.mark.parametrize(
    ("policy", "shown"),
    [("wo_dynares", "w/o DynaRes"), ("vitmalis (w=9, d=4) *", "ViTMAlis (w=9, d=4) *"), ("mine", "mine")],
)
def test_policies_are_called_as_in_the_paper(policy: str, shown: str) -> None:
    assert label(policy) == shown


def test_numbers_of_a_column_have_equally_many_decimals() -> None:
    table = pd.DataFrame({"policy": ["oracle"], "rendering F1, median": [1.0], "E2E, ms": [410.31], "pairs": [6]})
    table = pd.concat([table, pd.DataFrame({"policy": ["mine"], "rendering F1, median": [0.9341], "pairs": [6]})])
    policy, f1, e2e, pairs = page_columns(table)
    assert (policy.cells, policy.numeric) == (["One-step look-ahead", "mine"], False)
    assert (f1.cells, f1.numeric) == (["1.000", "0.934"], True)
    assert (e2e.cells, e2e.keys) == (["410", "–"], ["410.31", ""])
    assert pairs.cells == ["6", "6"]
    assert "median over pairs" in f1.meaning


def runs_of(values: dict[str, Sequence[float]]) -> pd.DataFrame:
    rows = [(policy, f"clip{n}", "4g", f1) for policy, all_f1 in values.items() for n, f1 in enumerate(all_f1)]
    return pd.DataFrame(rows, columns=["policy", "clip", "trace", "rendering_f1"])


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"trackb2b": [0.5], "vitmalis": [0.54]},
            "ViTMAlis gains 0.040 rendering F1 against TrackB2B on 1 pair of clip and trace: too few to tell whether "
            "that holds for others.",
        ),
        (
            {"back2back": [0.2, 0.4], "trackroi": [0.5, 0.3]},
            "TrackRoI gains 0.100 rendering F1 against Back2Back on 2 pairs of clip and trace: too few to tell whether "
            "that holds for others.",
        ),
        (
            {"oracle": [0.8, 0.9]},
            "One-step look-ahead reaches a median rendering F1 of 0.850 over 2 pairs of clip and trace.",
        ),
        (
            {"trackb2b": [0.5] * 6, "vitmalis": [0.4] * 6},
            "ViTMAlis loses 0.100 rendering F1 against TrackB2B over 6 pairs of clip and trace (95 % interval -0.100 "
            "to -0.100).",
        ),
        (
            {"trackb2b": [0.5] * 6, "fixed": [0.7] * 6, "vitmalis": [0.6] * 6},
            "ViTMAlis gains 0.100 rendering F1 against TrackB2B over 6 pairs of clip and trace (95 % interval +0.100 "
            "to +0.100). ViTMAlis loses 0.100 rendering F1 against fixed over 6 pairs of clip and trace (95 % interval "
            "-0.100 to -0.100).",
        ),
    ],
)
def test_a_report_begins_with_what_was_found(values: dict[str, Sequence[float]], sentence: str) -> None:
    assert leading_sentence(runs_of(values), list(values)) == sentence


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Two policies on two clips; the runs on the first clip have pages."""
    folder, number, clip_file = tmp_path / "sweep", 0, tmp_path / "clip.mp4"
    write_clip(clip_file)
    for clip in range(2):
        for policy, f1 in (("trackb2b", 0.4), ("vitmalis", 0.6)):
            write_run(folder, number, policy, f"clip{clip}", f1 + 0.1 * clip)
            if clip == 0:
                document = run_document(small_run(clip_file, policy))
                write_run_page(folder / str(number) / "run.html", document, None)
            number += 1
    return folder


def test_points_lead_to_the_pages_of_their_runs_and_to_both_side_by_side(sweep: Path) -> None:
    study, report = read_study([sweep]), sweep / "report"
    report.mkdir()
    document = plot_document(study.runs, study.policies, ["TrackB2B", "ViTMAlis"], report)
    first, second = document.pairs
    assert [run.page for run in first.runs] == ["../0/run.html", "../1/run.html"]
    assert first.comparison == "pairs/clip0-4g_00.html"
    assert (report / first.comparison).is_file()
    assert [run.metrics["rendering_f1"] for run in second.runs] == [0.5, 0.7]
    assert ([run.page for run in second.runs], second.comparison) == (["", ""], "")
    assert second.compared == [str(sweep / "2"), str(sweep / "3")]


def test_a_run_without_f1_has_no_point(sweep: Path) -> None:
    runs = read_study([sweep]).runs
    runs.loc[0, "rendering_f1"] = math.nan
    document = plot_document(runs, ["trackb2b", "vitmalis"], ["TrackB2B", "ViTMAlis"], sweep)
    assert "rendering_f1" not in document.pairs[0].runs[0].metrics


@pytest.mark.slow
def test_the_page_sorts_and_its_points_lead_to_runs(
    sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_report(read_study([sweep]), sweep / "report", "small")
    with chromium(tmp_path / "profile") as tab:
        tab.call("Emulation.setDeviceMetricsOverride", width=1200, height=900, deviceScaleFactor=1, mobile=False)
        tab.call("Page.navigate", url=(sweep / "report" / "report.html").absolute().as_uri())
        tab.wait("document.readyState === 'complete' && document.querySelectorAll('canvas').length === 2")
        first = "document.querySelector('#policies tbody tr td').textContent"
        assert tab.run(first) == "TrackB2B"
        for _ in range(2):
            tab.run("document.querySelectorAll('#policies th')[2].click()")
        assert tab.run(first) == "ViTMAlis"
        assert tab.run("document.querySelectorAll('#policies th')[2].title").startswith("median over pairs")
        tab.run(POINT_AT_EVERYTHING)
        assert "clip0, 4g_00" in tab.run("document.querySelector('.pinned').textContent")
        links = tab.run("[...document.querySelectorAll('.pinned a')].map((a) => a.getAttribute('href'))")
        assert links == ["../0/run.html", "../1/run.html", "pairs/clip0-4g_00.html"]
        assert tab.run("document.documentElement.scrollWidth <= innerWidth")
        assert tab.problems == []
        assert all(url.startswith(("file:", "data:")) for url in tab.requests)


POINT_AT_EVERYTHING = """
(() => {
  const canvas = document.querySelector("canvas");
  const { left, top, width, height } = canvas.getBoundingClientRect();
  const pinned = document.querySelector(".pinned");
  for (let x = 0; x < width; x += 6) {
    for (let y = 0; y < height; y += 6) {
      canvas.dispatchEvent(new PointerEvent("pointermove", { clientX: left + x, clientY: top + y }));
      canvas.click();
      if (pinned.textContent.includes("clip0")) return;
    }
  }
})()
"""
