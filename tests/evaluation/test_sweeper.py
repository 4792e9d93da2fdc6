"""The options of a sweep are checked before its first run, each value once and not each combination."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from vitmalis_jobs.common.config import conf_dir
from vitmalis_jobs.evaluation.cli import main
from vitmalis_jobs.evaluation.sweep import current_sweep, options_checked, position_in_sweep, runs_with_new_values


def test_each_value_of_a_sweep_is_in_one_of_the_checked_runs_and_few_runs_are_checked() -> None:
    values = [f"policy={i}" for i in range(12)], [f"video={i}" for i in range(5)], [f"trace={i}" for i in range(12)]
    runs = [[*run, "eval.seconds=1"] for run in itertools.product(*values)]
    checked = runs_with_new_values(runs)
    assert {option for run in checked for option in run} == {option for run in runs for option in run}
    assert len(runs) == 720
    assert len(checked) == 1 + 11 + 4 + 11
    assert checked[1] == ["policy=0", "video=0", "trace=1", "eval.seconds=1"]
    assert checked[-1] == ["policy=11", "video=0", "trace=0", "eval.seconds=1"]
    assert runs_with_new_values([]) == []


@pytest.mark.parametrize(
    ("swept", "expected"),
    [
        ("policy=fixed,trackb2b,fixd", "policy=fixd is unknown: did you mean fixed?"),
        ("policy=fixed,back2back +policy.x=1,2 policy.y=3,4", "there is no option 'policy.y'"),
        ("trace=4g,5g video=walkS,walkX", "video=walkX is unknown"),
    ],
)
def test_a_mistake_in_a_later_value_is_found_before_the_first_run(
    swept: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["evaluate.py", "-m", "trace.index=0,1,2", *swept.split()])
    assert main() == 2
    said = capfd.readouterr()
    count = 3
    for option in swept.split():
        count *= len(option.split(","))
    assert said.out.startswith(f"checking the options of {count} runs ...\n")
    assert expected in said.err
    assert not list(tmp_path.glob("runs/sweeps"))


def test_the_runs_of_a_sweep_are_counted() -> None:
    checked: list[list[str]] = []
    with current_sweep():
        assert position_in_sweep(0) == ""
        options_checked([["a=1", "b=1"], ["a=1", "b=2"], ["a=2", "b=1"], ["a=2", "b=2"]], 720, checked.append)
        assert position_in_sweep(2) == "run 3 of 720"
    assert checked == [["a=1", "b=1"], ["a=1", "b=2"], ["a=2", "b=1"]]
    assert position_in_sweep(0) == "", "in a launcher's worker"


def test_evaluations_have_the_options_of_hydras_own_sweeper() -> None:
    sweeper = OmegaConf.load(conf_dir() / "hydra" / "sweeper" / "each_value.yaml")
    assert set(sweeper) == {"_target_", "max_batch_size", "params"}
