"""Tables of a study by footage, kind of trace and clip, by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from tests.evaluation.study.test_study_report import write_run
from vitmalis_jobs.evaluation.study.runs import Study, read_study
from vitmalis_jobs.evaluation.study.statistics import by_pair, frames_of_pairs, mean_by_frames
from vitmalis_jobs.evaluation.study.subsets import (
    BY_FOOTAGE,
    BY_TRACE,
    clip_table,
    difference_table,
    level_table,
    sections,
)

RENDERED = {"video": "a rendered scene for walkS"}
AFTER = "rendering_f1_after_first_result"


def mixed_study(folder: Path) -> Study:
    """Two real clips, of 10 and 30 frames, and a rendered one of 20."""
    number = 0
    for clip, frames, stand_ins, gain in (
        ("indoor", 10, {}, 0.3),
        ("market", 30, {}, 0.1),
        ("walkS", 20, RENDERED, -0.2),
    ):
        for policy, f1 in (("trackb2b", 0.5), ("vitmalis", 0.5 + gain)):
            write_run(folder, number, policy, clip, f1, stand_ins=stand_ins, **{"frames": frames, AFTER: f1 + 0.1})
            number += 1
    return read_study([folder])


def rows(table: pd.DataFrame, policy: str) -> pd.DataFrame:
    return table[table["policy"] == policy].set_index("footage")


def test_real_and_rendered_footage_are_kept_apart(tmp_path: Path) -> None:
    study = mixed_study(tmp_path)
    table = rows(level_table(study.runs, study.policies, BY_FOOTAGE), "vitmalis")
    assert list(table.index) == ["all", "real", "rendered"]
    assert table["clips"].tolist() == table["pairs"].tolist() == [3, 2, 1]
    assert table["frames"].tolist() == [60, 40, 20]
    assert table["rendering F1, median"].tolist() == pytest.approx([0.6, 0.7, 0.3])
    assert table["mean"].tolist() == pytest.approx([1.7 / 3, 0.7, 0.3])
    assert table["mean by frames"].tolist() == pytest.approx([(8 + 18 + 6) / 60, (8 + 18) / 40, 0.3])
    assert table["after the first result, mean"].tolist() == pytest.approx([2.0 / 3, 0.8, 0.4])
    assert table["after it, by frames"].tolist() == pytest.approx([38 / 60, 30 / 40, 0.4])


def test_differences_by_footage(tmp_path: Path) -> None:
    study = mixed_study(tmp_path)
    table = rows(difference_table(study.runs, study.policies, BY_FOOTAGE), "vitmalis")
    assert table["mean difference"].tolist() == pytest.approx([0.2 / 3, 0.2, -0.2])
    assert table["by frames"].tolist() == pytest.approx([2 / 60, 6 / 40, -0.2])
    assert table["after the first result"].tolist() == pytest.approx([0.2 / 3, 0.2, -0.2])
    assert table["from, over clips"].isna().all(), "too few clips"
    assert difference_table(study.runs[study.runs["policy"] == "vitmalis"], ["vitmalis"], BY_FOOTAGE).empty


def test_generated_and_measured_traces_are_kept_apart(tmp_path: Path) -> None:
    number = 0
    for trace, source, gain in (
        ("4g_00", "generated", 0.2),
        ("measured_4g_00", "data/traces", 0.1),
        ("mine", "file", 0.0),
    ):
        for policy, f1 in (("trackb2b", 0.5), ("vitmalis", 0.5 + gain)):
            write_run(tmp_path, number, policy, "indoor", f1, trace=trace, source=source, start_s=3.0)
            number += 1
    study = read_study([tmp_path])
    table = difference_table(study.runs, study.policies, BY_TRACE).set_index("kind of trace")
    assert table["mean difference"].to_dict() == pytest.approx(
        {"all": 0.1, "generated": 0.2, "measured": 0.1, "file": 0.0}
    )
    titles = [section.title for section in sections(study.runs, study.policies)]
    assert "Generated and measured traces" in titles
    one = study.runs[study.runs["trace_kind"] == "measured"]
    assert "Generated and measured traces" not in [section.title for section in sections(one, study.policies)]


def test_every_clip_has_a_row(tmp_path: Path) -> None:
    study = mixed_study(tmp_path)
    table = clip_table(study.runs, study.policies).set_index("clip")
    assert table["footage"].to_dict() == {"indoor": "real", "market": "real", "walkS": "rendered"}
    assert table.loc["market", ["frames", "traces", "trackb2b, F1", "vitmalis, F1"]].tolist() == pytest.approx(
        [30, 1, 0.5, 0.6]
    )


def test_one_kind_of_footage_and_runs_without_the_metric(tmp_path: Path) -> None:
    write_run(tmp_path, 0, "trackb2b", "indoor", 0.5)
    write_run(tmp_path, 1, "vitmalis", "indoor", 0.6, **{AFTER: 0.7})
    study = read_study([tmp_path])
    table = level_table(study.runs, study.policies, BY_FOOTAGE)
    assert table["footage"].tolist() == ["real", "real"]
    for column in ("after the first result, mean", "after it, by frames"):
        assert table[column].fillna(-1).tolist() == [-1, 0.7], "of each policy that has it"


def test_a_mean_by_frames() -> None:
    runs = pd.DataFrame(
        {"clip": ["a", "b"], "trace": ["t", "t"], "policy": ["p", "p"], "frames": [13.0, 600.0], "f1": [0.9, 0.5]}
    )
    table = by_pair(runs, "f1")
    assert mean_by_frames(table["p"], frames_of_pairs(runs, table.index)) == pytest.approx((13 * 0.9 + 600 * 0.5) / 613)
    assert math.isnan(mean_by_frames(table["p"].iloc[:0], frames_of_pairs(runs, table.index[:0])))
