"""The section on sensitivity, from runs whose F1 are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_study_report import write_run

from vitmalis.errors import UserError
from vitmalis_jobs.evaluation.study.runs import read_study
from vitmalis_jobs.evaluation.study.sensitivity import sections, sensitivity_table

F1 = {
    "vary=null": (0.5, 0.6),
    "vary={trace.rtt_scale:0.5}": (0.6, 0.65),
    "vary={trace.rtt_scale:2}": (0.4, 0.55),
    "vary={eval.iou_threshold:0.75}": (0.3, 0.4),
}
"""Rendering F1 of `trackb2b` and of `vitmalis`."""


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    number = 0
    for vary, values in F1.items():
        for policy, f1 in zip(("trackb2b", "vitmalis"), values, strict=True):
            for clip in range(6):
                write_run(tmp_path, number, policy, f"clip{clip}", f1 + 0.01 * clip, "FINISHED", vary)
                number += 1
    return tmp_path


def test_gains_are_compared_under_the_same_assumption(sweep: Path) -> None:
    table = sensitivity_table(read_study([sweep])).set_index("varied")
    assert list(table.index) == ["base", "trace.rtt_scale=0.5", "trace.rtt_scale=2", "eval.iou_threshold=0.75"]
    assert set(table["policy"]) == {"vitmalis"}
    assert table["gain"].tolist() == pytest.approx([0.1, 0.05, 0.15, 0.1])
    assert table["rendering F1"].tolist() == pytest.approx([0.625, 0.675, 0.575, 0.425])
    assert table["change of the gain"].tolist()[1:] == pytest.approx([-0.05, 0.05, 0.0])
    assert np.isnan(table.loc["base", "change of the gain"])
    assert table.loc["trace.rtt_scale=2", ["from", "to"]].tolist() == pytest.approx([0.05, 0.05]), "every pair alike"


def test_variations_take_no_part_in_other_comparisons(sweep: Path, tmp_path: Path) -> None:
    study = read_study([sweep])
    assert (len(study.runs), len(study.varied)) == (12, 36)
    assert study.policies == ["trackb2b", "vitmalis"]
    (section,) = sections(study, tmp_path)
    assert section.image is not None
    assert section.image.stat().st_size > 5000


def test_without_a_base_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    write_run(tmp_path, 0, "trackb2b", "clip", 0.5, "FINISHED", "vary={trace.rtt_scale:2}")
    with pytest.raises(UserError, match="all runs vary something, none is what they are compared with: add vary=null"):
        read_study([tmp_path])


def test_without_variations_there_is_no_section(tmp_path: Path) -> None:
    write_run(tmp_path, 0, "trackb2b", "clip", 0.5)
    study = read_study([tmp_path])
    assert sections(study, tmp_path) == []
    assert isinstance(study.varied, pd.DataFrame)
