"""The section of a study on several devices that share a server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.evaluation.study.test_study_report import write_run
from vitmalis_jobs.evaluation.study.cli import main
from vitmalis_jobs.evaluation.study.devices import devices_table
from vitmalis_jobs.evaluation.study.runs import read_study


def write_study(folder: Path) -> None:
    """Two policies with one device and with four, of which the first and the worst have another F1 than the mean."""
    number = 0
    for policy, alone, shared in (("trackb2b", 0.5, 0.3), ("fixed", 0.6, 0.4)):
        write_run(folder, number, policy, "walkS", alone, "FINISHED", "devices.count=1")
        several = {"devices": 4.0, "jain_rendering_f1": 0.9, "first_device_rendering_f1": shared + 0.05}
        several |= {"worst_device_rendering_f1": shared - 0.1, "first_device_e2e_latency_s_median": 0.8}
        write_run(folder, number + 1, policy, "walkS", shared, "FINISHED", "devices.count=4", **several)
        number += 2


def test_each_number_of_devices_is_a_row(tmp_path: Path) -> None:
    write_study(tmp_path)
    study = read_study([tmp_path])
    assert set(study.policies) == {f"{policy} (devices={n})" for policy in ("trackb2b", "fixed") for n in (1, 4)}
    table = devices_table(study.runs)
    assert table[["policy", "devices", "pairs"]].to_numpy().tolist() == [
        ["fixed", 1, 1], ["fixed", 4, 1], ["trackb2b", 1, 1], ["trackb2b", 4, 1],
    ]  # fmt: skip
    assert table["rendering F1"].tolist() == pytest.approx([0.6, 0.4, 0.5, 0.3])
    assert table["first device's F1"].tolist() == pytest.approx([0.6, 0.45, 0.5, 0.35])
    assert table["worst device's F1"].tolist() == pytest.approx([0.6, 0.3, 0.5, 0.2])
    assert table["fairness of F1"].tolist() == pytest.approx([1.0, 0.9, 1.0, 0.9])
    assert table["first device's E2E, ms"].tolist() == pytest.approx([200.0, 800.0, 200.0, 800.0])
    assert main([str(tmp_path), "--no-mlflow"]) == 0
    assert {"devices.png", "devices.svg", "several_devices.csv"} <= {p.name for p in (tmp_path / "report").iterdir()}


def test_a_study_with_one_device_has_no_section_for_several(tmp_path: Path) -> None:
    write_run(tmp_path, 0, "trackb2b", "walkS", 0.5)
    study = read_study([tmp_path])
    assert study.policies == ["trackb2b"]
    assert devices_table(study.runs).empty
