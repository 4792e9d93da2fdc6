"""A sweep's folder and MLflow run belong to one command; every run leaves a summary."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from vitmalis.errors import UserError
from vitmalis_jobs.common.mlflow_store import Store
from vitmalis_jobs.evaluation.cli import check_working_directory
from vitmalis_jobs.evaluation.sweep import Sweep, check_name, print_comparison, side_by_side_warning
from vitmalis_jobs.run.directory import RUN_FILE, RunDirectory, RunInProgress, read_summaries, read_sweep


def mlflow(folder: Path) -> object:
    return OmegaConf.create(
        {"tracking_uri": f"sqlite:///{folder}/mlflow.db", "experiment": "e", "artifact_dir": str(folder / "artifacts")}
    )


def opened(folder: Path, command: list[str], options: object) -> Sweep:
    sweep = Sweep()
    sweep.open(folder, command, options)  # type: ignore[arg-type]
    return sweep


def test_a_sweep_has_one_run_above_it_however_often_it_starts(tmp_path: Path) -> None:
    folder, options = tmp_path / "s", mlflow(tmp_path)
    sweep = opened(folder, ["policy=a,b"], options)
    first = read_sweep(folder)["run_id"]
    assert RunDirectory(folder / "0", folder).parent_run_id == first
    store = Store(options.tracking_uri, "e", tmp_path / "artifacts")  # type: ignore[attr-defined]
    RunDirectory(folder / "0", folder).write_summary("KILLED", {})
    sweep.close(interrupted=True, failed=False)
    assert store.client.get_run(first).info.status == "KILLED"
    sweep = opened(folder, ["policy=a,b"], options)
    assert read_sweep(folder)["run_id"] == first
    assert store.client.get_run(first).info.status == "RUNNING"
    RunDirectory(folder / "0", folder).write_summary("FINISHED", {}, skipped=True, run_id="r")
    sweep.close(interrupted=False, failed=False)
    parent = store.client.get_run(first)
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics == {
        f"sweep/runs_{what}": n for what, n in (("finished", 1), ("failed", 0), ("taken_over", 1))
    }
    store.client.delete_run(first)
    opened(folder, ["policy=a,b"], options)
    assert read_sweep(folder)["run_id"] != first


def test_a_folder_is_not_shared_by_two_commands(tmp_path: Path) -> None:
    opened(tmp_path / "s", ["policy=a,b"], mlflow(tmp_path))
    with pytest.raises(UserError, match=r"another command \(policy=a,b\).*another sweep.name"):
        opened(tmp_path / "s", ["policy=a"], mlflow(tmp_path))


def test_a_single_run_has_no_sweep_to_close() -> None:
    sweep = Sweep()
    assert sweep.directory is None
    assert not sweep.print_comparison()
    sweep.close(interrupted=False, failed=False)


def test_a_run_in_progress_leaves_no_summary(tmp_path: Path) -> None:
    place = RunDirectory(tmp_path / "0", tmp_path)
    with pytest.raises(RunInProgress), place.summary_on_failure():
        raise RunInProgress("busy")
    assert read_summaries(tmp_path) == []


def test_a_run_ended_by_its_launcher_is_killed(tmp_path: Path) -> None:
    place = RunDirectory(tmp_path / "0", tmp_path)
    with pytest.raises(SystemExit), place.summary_on_failure():
        raise SystemExit(1)
    assert read_summaries(tmp_path)[0]["status"] == "KILLED"


def test_a_run_that_finished_stays_finished_when_it_is_interrupted_afterwards(tmp_path: Path) -> None:
    place = RunDirectory(tmp_path / "0", tmp_path)

    def finish_and_interrupt() -> None:
        with place.summary_on_failure():
            place.write_summary("FINISHED", {"f": 1.0}, run_id="x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finish_and_interrupt()
    assert read_summaries(tmp_path)[0]["status"] == "FINISHED"
    with pytest.raises(UserError), place.summary_on_failure():
        raise UserError("made again, and wrong")
    assert read_summaries(tmp_path)[0]["status"] == "FAILED"


def test_a_long_sweep_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(70):
        place = RunDirectory(tmp_path / str(number), tmp_path, number, (f"trace.index={number}",))
        if number == 69:
            place.write_summary("FAILED", {}, error="no such trace")
        else:
            place.write_summary("FINISHED", {}, skipped=number < 9)
    assert print_comparison(tmp_path)
    said = capsys.readouterr().out
    assert "70 runs: 9 taken over, 60 finished, 1 failed" in said
    assert "trace.index=69: no such trace" in said


def test_summaries_hold_what_reports_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    RunDirectory(tmp_path / "runs" / "0").write_summary("FINISHED", {"f": 1.0}, run_id="x", fingerprint="abc")
    assert json.loads((tmp_path / "runs" / "0" / "summary.json").read_text()) == {
        "status": "FINISHED",
        "overrides": [],
        "metrics": {"f": 1.0},
        "run_dir": "runs/0",
        "skipped": False,
        "run_id": "x",
        "fingerprint": "abc",
    }


@pytest.mark.parametrize(
    ("target", "options", "clocks", "warned"),
    [
        ("hydra._internal.core_plugins.basic_launcher.BasicLauncher", {}, "realtime", False),
        ("hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher", {"n_jobs": -1}, "realtime", True),
        ("hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher", {"n_jobs": 2}, "virtual,realtime", True),
        ("hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher", {"n_jobs": 2}, "virtual", False),
        ("hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher", {"n_jobs": 1}, "realtime", False),
        ("hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher", {}, "realtime", False),
    ],
)
def test_real_time_runs_side_by_side_are_warned_of(
    target: str, options: dict[str, int], clocks: str, warned: bool
) -> None:
    warning = side_by_side_warning({"_target_": target, **options}, clocks)
    assert ("clock=virtual" in warning) == warned


def test_a_worker_in_another_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_working_directory(tmp_path)
    with pytest.raises(UserError, match="start workers there"):
        check_working_directory(tmp_path.parent)


NO_SWEEPS = ("../../out", "/tmp/out", "a/../../b", "..", ".", "logs", "mine/logs", ".hydra", "a\nb", "a\\b", "con")


@pytest.mark.parametrize("name", NO_SWEEPS)
def test_a_sweep_stays_below_its_folder(name: str) -> None:
    with pytest.raises(UserError, match=r"sweep\.name="):
        check_name(name)


@pytest.mark.parametrize("name", ["mine", "2026-11-27/10-00-00-1", "fig8.again", "..mine"])
def test_other_names_of_sweeps_are_fine(name: str) -> None:
    check_name(name)


def test_a_sweep_does_not_lie_in_the_folder_of_a_run(tmp_path: Path) -> None:
    with RunDirectory(tmp_path / "mine" / "0").in_use(wait=True):
        pass
    assert (tmp_path / "mine" / "0" / RUN_FILE).exists()
    with pytest.raises(UserError, match="would lie in the folder of a run"):
        opened(tmp_path / "mine" / "0" / "inner", [], mlflow(tmp_path))


def test_a_run_that_another_process_makes_is_waited_for_or_left(tmp_path: Path) -> None:
    with (
        RunDirectory(tmp_path).in_use(wait=True),
        pytest.raises(RunInProgress),
        RunDirectory(tmp_path).in_use(wait=False),
    ):
        pass
