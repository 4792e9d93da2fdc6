"""MLflow store: runs, their statuses, parallel processes and processes that are killed."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from vitmalis.errors import UserError
from vitmalis_jobs.common import mlflow_store as module
from vitmalis_jobs.common.mlflow_store import Store
from vitmalis_jobs.common.run_process import SILENT_S
from vitmalis_jobs.common.signals import deferred_signals
from vitmalis_jobs.common.tracking_address import check_server


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("store")
    return Store(f"sqlite:///{folder}/mlflow.db", "tests", folder / "artifacts")


def status(store: Store, run_id: str) -> str:
    return str(store.client.get_run(run_id).info.status)


def test_a_run_holds_what_was_logged(store: Store, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("hello")
    with store.run("one", {"clip": "market1906"}) as run:
        assert status(store, run.run_id) == "RUNNING"
        run.log_params({"eval.seconds": 10, "policy.name": "trackb2b"})
        run.log_metrics({"rendering_f1": 0.5, "decision_s_mean": 0.0000044380000190})
        run.log_curve("rendering_f1_per_s", [0, 1, 2], [0.1, 0.2, 0.3])
        run.log_artifact(tmp_path / "note.txt", "logs")
    stored = store.client.get_run(run.run_id)
    assert stored.info.status == "FINISHED"
    assert stored.data.params == {"eval.seconds": "10", "policy.name": "trackb2b"}
    assert stored.data.metrics == {
        "f1/rendering": 0.5,
        "f1/rendering_over_time": 0.3,
        "latency/decision_mean_s": 4.438e-06,
    }
    assert stored.data.tags["clip"] == "market1906"
    curve = store.client.get_metric_history(run.run_id, "f1/rendering_over_time")
    assert [(m.step, m.value) for m in curve] == [(0, 0.1), (1, 0.2), (2, 0.3)]
    assert [f.path for f in store.client.list_artifacts(run.run_id, "logs")] == ["logs/note.txt"]


@pytest.mark.parametrize(
    ("error", "expected"),
    [(ValueError("broken"), "FAILED"), (UserError("yours"), "FAILED"), (KeyboardInterrupt(), "KILLED")],
)
def test_a_run_that_does_not_finish_says_how(store: Store, error: BaseException, expected: str) -> None:
    with pytest.raises(type(error)), store.run("two", {}) as run:
        raise error
    assert status(store, run.run_id) == expected
    assert store.client.get_run(run.run_id).data.tags.get("error", "").endswith(str(error))


def test_a_signal_while_the_store_is_written_comes_after() -> None:
    reached = []

    def write() -> None:
        with deferred_signals():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
            reached.append(True)

    with pytest.raises(KeyboardInterrupt):
        write()
    assert reached
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


OUTRIGHT = """
import os, sys
from pathlib import Path
from vitmalis_jobs.common.mlflow_store import Store
folder = Path(sys.argv[1])
with Store(f"sqlite:///{folder}/mlflow.db", "tests", folder / "artifacts").run("dead", {}) as run:
    print(run.run_id, flush=True)
    os._exit(9)
"""


def test_a_run_whose_process_was_killed_outright_is_ended_by_the_next(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", OUTRIGHT, str(tmp_path)], capture_output=True, text=True, check=False)
    run_id = ended.stdout.strip()
    assert ended.returncode == 9
    next_store = Store(f"sqlite:///{tmp_path}/mlflow.db", "tests", tmp_path / "artifacts")
    assert status(next_store, run_id) == "KILLED"
    with next_store.run("alive", {}) as run:
        Store(f"sqlite:///{tmp_path}/mlflow.db", "tests", tmp_path / "artifacts")
        assert status(next_store, run.run_id) == "RUNNING"


def test_a_dead_run_of_any_experiment_is_ended(tmp_path: Path) -> None:
    """A killed profiling run ends as soon as evaluations are made or looked at."""
    ended = subprocess.run([sys.executable, "-c", OUTRIGHT, str(tmp_path)], capture_output=True, text=True, check=False)
    other = Store(f"sqlite:///{tmp_path}/mlflow.db", "another", tmp_path / "artifacts")
    assert status(other, ended.stdout.strip()) == "KILLED"


TERMINATED = """
import os, signal, sys
from pathlib import Path
from vitmalis_jobs.common.cli import run_job
from vitmalis_jobs.common.mlflow_store import Store

def job():
    folder = Path(sys.argv[1])
    with Store(f"sqlite:///{folder}/mlflow.db", "tests", folder / "artifacts").run("profiling", {}) as run:
        print(run.run_id, flush=True)
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()

sys.exit(run_job(job))
"""


def test_a_job_that_is_terminated_ends_its_run(tmp_path: Path) -> None:
    command = [sys.executable, "-c", TERMINATED, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 130
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    assert client.get_run(ended.stdout.strip()).info.status == "KILLED"


KILLED_WHILE_CREATING = """
import os, sys
from pathlib import Path
from sqlalchemy import event
from sqlalchemy.engine import Engine
from vitmalis_jobs.common.mlflow_store import Store
folder, changes = Path(sys.argv[1]), []

@event.listens_for(Engine, "after_cursor_execute")
def count(connection, cursor, statement, *_):
    if statement.split()[0] in ("CREATE", "ALTER", "DROP"):
        changes.append(statement)
        if len(changes) == 40:
            os._exit(9)

Store(f"sqlite:///{folder}/mlflow.db", "tests", folder / "artifacts")
"""


def test_a_process_killed_while_it_creates_the_store_leaves_none(tmp_path: Path) -> None:
    """MLflow changes its tables one by one and cannot go on with tables that were changed in part."""
    command = [sys.executable, "-c", KILLED_WHILE_CREATING, str(tmp_path)]
    assert subprocess.run(command, capture_output=True).returncode == 9
    assert not (tmp_path / "mlflow.db").exists()
    store = Store(f"sqlite:///{tmp_path}/mlflow.db", "tests", tmp_path / "artifacts")
    assert store.client.search_runs([store.experiment_id]) == []


def _one_run(folder: Path) -> None:
    with Store(f"sqlite:///{folder}/mlflow.db", "new", folder / "artifacts").run("parallel", {}) as run:
        for i in range(10):
            run.log_metrics({f"m{i}": float(i)})


def test_many_processes_may_start_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_one_run, args=(tmp_path,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 3
    store = Store(f"sqlite:///{tmp_path}/mlflow.db", "new", tmp_path / "artifacts")
    runs = store.client.search_runs([store.experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED"] * 3
    assert all(len(run.data.metrics) == 10 for run in runs)


def test_a_store_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nonsense://here"):
        Store("nonsense://here", "tests", tmp_path)


def test_a_tracking_server_that_is_not_there_is_named_without_asking_mlflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # if MLflow were asked, its own message would come
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(UserError, match=f"mlflow.tracking_uri={address}: no tracking server answers there") as info:
            Store(address, "tests", tmp_path)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize("address", ["http://127.0.0.1:99999", "http://", "https://no-such-host.invalid"])
def test_an_address_that_no_server_can_have_is_named(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(UserError, match=f"mlflow.tracking_uri={address}: no tracking server answers there"):
        Store(address, "tests", tmp_path)


def test_a_tracking_server_behind_a_proxy_is_not_asked_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.invalid:3128")
    check_server("http://tracking.invalid")


def test_an_experiment_that_another_machine_made_meanwhile_is_used(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file lock holds between machines: the server refuses the second, which then asks again."""
    known = store.client.get_experiment(store.experiment_id)
    answers = [None, known]
    monkeypatch.setattr(MlflowClient, "get_experiment_by_name", lambda *_: answers.pop(0))
    uri, _, _ = store.name.rpartition(" ")
    assert Store(uri, "tests", tmp_path).experiment_id == store.experiment_id
    assert answers == []


def test_a_deleted_experiment_is_named(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    made = Store(uri, "gone", tmp_path)
    made.client.delete_experiment(made.experiment_id)
    with pytest.raises(UserError, match=rf"mlflow.experiment=gone: .* --experiment-id {made.experiment_id}"):
        Store(uri, "gone", tmp_path)


def test_a_run_of_another_machine_is_ended_when_it_has_long_said_nothing(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    first = Store(uri, "hosts", tmp_path)
    now, tags = time.time(), {"process.host": "another", "process.pid": "1", "process.started": "0"}
    silent, there, foreign = (
        first.client.create_run(first.experiment_id, tags=each).info.run_id
        for each in (
            tags | {"process.heartbeat": f"{now - 2 * SILENT_S}"},
            tags | {"process.heartbeat": f"{now - SILENT_S / 2}"},
            {},
        )
    )
    Store(uri, "hosts", tmp_path)
    assert [status(first, run_id) for run_id in (silent, there, foreign)] == ["KILLED", "RUNNING", "RUNNING"]


def test_a_run_says_that_it_is_there(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.01)
    with store.run("long", {}) as run:
        first = store.client.get_run(run.run_id).data.tags["process.heartbeat"]
        deadline = time.monotonic() + 120
        while store.client.get_run(run.run_id).data.tags["process.heartbeat"] == first:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_run_that_finishes_while_it_is_looked_at_stays_finished(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = store.create_parent("quick", {})

    def ends_and_is_gone(_: object) -> bool:
        store.end(run_id, "FINISHED", {}, "")
        return False

    monkeypatch.setattr(module, "alive", ends_and_is_gone)
    uri, _, _ = store.name.rpartition(" ")
    Store(uri, "tests", Path("unused"))
    assert status(store, run_id) == "FINISHED"
    assert store.finish(run_id)
    assert not store.finish("no such run")


def test_a_relative_address_means_the_store_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = {}
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        store = Store("sqlite:///runs/mlflow.db", "tests", Path("artifacts"))
        runs[name] = store.create_parent(name, {})
        assert [run.info.run_id for run in store.client.search_runs([store.experiment_id])] == [runs[name]]
        assert store.name == "sqlite:///runs/mlflow.db tests"
    monkeypatch.chdir(tmp_path / "one")
    assert Store("sqlite:///runs/mlflow.db", "tests", Path("artifacts")).finish(runs["one"])


def _log_note(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Store, str]:
    """A run with one artifact, made in a project folder that is the working directory."""
    monkeypatch.chdir(folder)
    (folder / "note.txt").write_text("hello")
    store = Store("sqlite:///runs/mlflow.db", "tests", Path("runs/artifacts"))
    with store.run("note", {}) as run:
        run.log_artifact(folder / "note.txt")
    return store, run.run_id


def _notes(folder: Path) -> set[str]:
    """Ids of the runs whose artifact lies below a project folder."""
    return {path.parts[-3] for path in folder.glob("runs/artifacts/*/artifacts/note.txt")}


def test_a_moved_project_keeps_its_artifacts_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    _, first = _log_note(before, monkeypatch)
    shutil.move(before, after)
    store, second = _log_note(after, monkeypatch)
    assert _notes(after) == {first, second}
    assert not before.exists()
    assert [[f.path for f in store.client.list_artifacts(run)] for run in (first, second)] == [["note.txt"]] * 2


def test_no_experiment_has_an_absolute_location(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither has the one that MLflow makes with every store and that no job uses."""
    monkeypatch.chdir(tmp_path)
    store = Store("sqlite:///runs/mlflow.db", "tests", Path("runs/artifacts"))
    locations = {each.name: each.artifact_location for each in store.client.search_experiments()}
    assert locations == {"Default": "runs/artifacts", "tests": "runs/artifacts"}


def test_a_copied_project_has_its_own_artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one").mkdir()
    _, first = _log_note(tmp_path / "one", monkeypatch)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    _, second = _log_note(tmp_path / "two", monkeypatch)
    assert (_notes(tmp_path / "one"), _notes(tmp_path / "two")) == ({first}, {first, second})


def test_a_moved_store_with_an_absolute_location_is_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As earlier versions and plain MLflow leave it: an absolute location in the experiment and in every run."""
    before, after = tmp_path / "before", tmp_path / "after"
    (before / "runs").mkdir(parents=True)
    monkeypatch.chdir(before)
    client = MlflowClient(f"sqlite:///{before}/runs/mlflow.db")
    experiment = client.create_experiment("tests", (before / "runs/artifacts").as_uri())
    first = client.create_run(experiment).info.run_id
    client.log_text(first, "hello", "note.txt")
    shutil.move(before, after)
    store, second = _log_note(after, monkeypatch)
    assert _notes(after) == {first, second}
    assert not before.exists()
    assert store.client.get_run(first).info.artifact_uri == f"runs/artifacts/{first}/artifacts"
    assert "/" + "before" not in str(store.client.get_experiment(experiment).artifact_location)


def test_a_copied_store_with_an_absolute_location_is_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one/runs").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "one")
    client = MlflowClient(f"sqlite:///{tmp_path}/one/runs/mlflow.db")
    experiment = client.create_experiment("tests", (tmp_path / "one/runs/artifacts").as_uri())
    first = client.create_run(experiment).info.run_id
    client.log_text(first, "hello", "note.txt")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    _, second = _log_note(tmp_path / "two", monkeypatch)
    assert (_notes(tmp_path / "one"), _notes(tmp_path / "two")) == ({first}, {first, second})


def test_a_folder_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"'{tmp_path}' is a folder: name a file"):
        Store(f"sqlite:///{tmp_path}", "tests", tmp_path)


def test_a_store_opened_from_another_folder_keeps_its_artifacts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    project.mkdir()
    (elsewhere / "runs/artifacts").mkdir(parents=True)
    _, first = _log_note(project, monkeypatch)
    monkeypatch.chdir(elsewhere)
    store = Store(f"sqlite:///{project}/runs/mlflow.db", "tests", Path("runs/artifacts"))
    with store.run("note", {}) as run:
        run.log_artifact(project / "note.txt")
    assert _notes(project) == {first, run.run_id}
    assert _notes(elsewhere) == set()
