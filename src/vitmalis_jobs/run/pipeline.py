"""One evaluation from its configuration to its MLflow run: resolve, prepare, execute, publish."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.machine_load import BUSY
from vitmalis_jobs.common.mlflow_experiment import NOTE
from vitmalis_jobs.common.mlflow_run import Run
from vitmalis_jobs.common.mlflow_store import Store
from vitmalis_jobs.common.storage_errors import noted_on, storage_errors
from vitmalis_jobs.run.checks import prepare_checked
from vitmalis_jobs.run.config import EvaluationConfig, flat
from vitmalis_jobs.run.describe import describe, played_trace, stand_ins, tags_of
from vitmalis_jobs.run.directory import RunDirectory
from vitmalis_jobs.run.disturbance import busy_verdict
from vitmalis_jobs.run.execute import Executor, needs_detector
from vitmalis_jobs.run.fingerprint import RunFingerprint, fingerprint_of
from vitmalis_jobs.run.mlflow_page import run_inputs
from vitmalis_jobs.run.page.files import PAGE_FILE
from vitmalis_jobs.run.publish import finish, publish
from vitmalis_jobs.run.realtime import play_realtime
from vitmalis_jobs.run.resolve import resolve_run
from vitmalis_jobs.run.resources import Resources
from vitmalis_jobs.run.result_files import VIDEO_FILE, remove_results
from vitmalis_jobs.run.room import Room
from vitmalis_jobs.run.run_index import IndexEntry, RunIndex
from vitmalis_jobs.run.spec import PreparedRun
from vitmalis_jobs.run.virtual import play_virtual


def run_evaluation(
    config: EvaluationConfig,
    directory: RunDirectory,
    resources: Resources | None = None,
    terminal: Terminal | None = None,
    *,
    wait: bool = True,
) -> dict[str, float]:
    """Make one run, or take over an equal one that has finished; returns its metrics by name.

    Args:
        config: the typed configuration.
        directory: where the run leaves its results.
        resources: shared with other runs of this process.
        terminal: shows facts, progress and results.
        wait: whether to wait where another process is making the same run of a sweep.

    Raises:
        UserError: something that a user can mend; other exceptions are bugs. What is found before the run plays leaves
            no MLflow run; later it ends as FAILED, and as KILLED on KeyboardInterrupt.
        RunInProgress: another process is making this run, and `wait` is false.
    """
    with storage_errors(), directory.in_use(wait):
        Room(directory.path, config.mlflow)
        return _run_evaluation(config, directory, resources or Resources(), terminal or Terminal(), wait)


def _run_evaluation(
    config: EvaluationConfig, directory: RunDirectory, resources: Resources, terminal: Terminal, wait: bool
) -> dict[str, float]:
    (directory.path / "logs").mkdir(parents=True, exist_ok=True)  # from now on anything may log
    spec = resolve_run(config)
    store = resources.store(config.mlflow)
    run = prepare_checked(spec, terminal, resources)
    fingerprint = fingerprint_of(run)
    execute = play_virtual if config.virtual else play_realtime
    if fingerprint is None or directory.sweep is None:
        return make_run(run, directory, execute, resources, terminal, fingerprint)
    index = RunIndex(Path(config.sweep.index))
    with index.lock(fingerprint.digest(), wait):
        equal = None if config.sweep.rerun else index.find(fingerprint.digest(), store)
        if equal is not None:
            return _take_over(equal, run, directory, store, terminal)
        return make_run(run, directory, execute, resources, terminal, fingerprint)


def make_run(
    run: PreparedRun,
    directory: RunDirectory,
    execute: Executor,
    resources: Resources,
    terminal: Terminal,
    fingerprint: RunFingerprint | None = None,
) -> dict[str, float]:
    """Execute and publish a prepared run; returns its metrics by name.

    Args:
        execute: plays the run.
        fingerprint: by which later sweeps find the run; None for one that they should not take over.
    """
    config, digest = run.config, fingerprint.digest() if fingerprint else ""
    store = resources.store(config.mlflow)
    if needs_detector(run):
        resources.detector(config.model)  # weights that do not fit are refused before there is an MLflow run
    remove_results(directory.path)
    terminal.header("ViTMAlis evaluation", describe(run), stand_ins(run))
    tags = tags_of(run, directory) | {"fingerprint": digest}
    with store.run(run.spec.title, tags) as mlflow_run:
        with _logs_kept(mlflow_run, directory.path):
            mlflow_run.log_params(flat(config))
            mlflow_run.log_inputs(list(run_inputs(run)))
            mlflow_run.log_artifact(_write_config(config, directory.path))
            result = execute(run, directory.path, resources, terminal, mlflow_run.tag)
            verdict = busy_verdict(result.busy, config.virtual) if result.busy else ""
            if verdict:
                mlflow_run.tag({BUSY: "; ".join(result.busy), NOTE: f"**{verdict}**"})
            metrics = publish(run, result, directory, mlflow_run, terminal)
        index = RunIndex(Path(config.sweep.index)) if fingerprint and result.reusable else None
        finish(run, metrics, directory, mlflow_run, index, digest, result.busy)
    terminal.result(metrics, _places(config, directory.path))
    if verdict:  # last, so that no one misses it
        terminal.warn(verdict)
    return metrics


def _take_over(
    equal: IndexEntry, run: PreparedRun, directory: RunDirectory, store: Store, terminal: Terminal
) -> dict[str, float]:
    """Let an equal run count for this one; it may be this very run, made before the sweep was interrupted."""
    terminal.note(f"{run.spec.title}: an equal run has finished, {equal.run_dir} (sweep.rerun=true makes it again)")
    if equal.run_dir != directory.run_dir:
        directory.write_summary(
            "FINISHED",
            equal.metrics,
            skipped=True,
            run_id=equal.run_id,
            run_dir=equal.run_dir,
            fingerprint=equal.fingerprint,
            stand_ins=stand_ins(run),
            trace=played_trace(run.spec),
        )
        if directory.parent_run_id:
            store.tag(equal.run_id, {f"sweep.taken_over.{directory.parent_run_id}": str(directory.number)})
    return equal.metrics


def _write_config(config: EvaluationConfig, directory: Path) -> Path:
    path = directory / "config.yaml"
    path.write_bytes(msgspec.yaml.encode(config))
    return path


@contextmanager
def _logs_kept(mlflow_run: Run, directory: Path) -> Iterator[None]:
    """Log what the processes wrote to their log files, also and above all when something failed."""
    first: BaseException | None = None
    try:
        yield
    except BaseException as error:
        first = error
        raise
    finally:
        with noted_on(first, "logs are not in MLflow"):
            for path in sorted((directory / "logs").glob("*.log")):
                mlflow_run.log_artifact(path, "logs")


def _places(config: EvaluationConfig, directory: Path) -> dict[str, str]:
    """Where to look further, by name."""
    files = {"look": directory / PAGE_FILE, "video": directory / VIDEO_FILE}
    places = {name: str(path) for name, path in files.items() if path.exists()}
    uri = config.mlflow.tracking_uri
    in_checkout = uri == "sqlite:///runs/mlflow.db" and Path("Makefile").is_file()
    places["compare"] = "make ui" if in_checkout else f"vitmalis ui --tracking-uri {uri}"
    return places | {"records": str(directory)}
