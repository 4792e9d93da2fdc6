"""One evaluation from its configuration to its MLflow run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from vitmalis.metrics import summarise
from vitmalis.references import compute_references
from vitmalis.types import Detections
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.detectors import loaded_detector
from vitmalis_jobs.common.mlflow_store import Run, Store
from vitmalis_jobs.run import processes
from vitmalis_jobs.run.config import EvaluationConfig, flat
from vitmalis_jobs.run.directory import RunDirectory
from vitmalis_jobs.run.fingerprint import Identity, identify
from vitmalis_jobs.run.processes import Played, Reached
from vitmalis_jobs.run.publish import FILM_FILE, report
from vitmalis_jobs.run.run_index import IndexEntry, RunIndex
from vitmalis_jobs.run.spec import RunSpec, describe, fetch_weights, make_plan, stand_ins, tags_of


@dataclass(frozen=True, slots=True)
class References:
    """What the run is judged by.

    Attributes:
        detections: one `Detections` a played frame; None for a live source, whose frames nobody can see twice.
        model_id: of the model they come from, which the server must serve, too; empty for none.
    """

    detections: list[Detections] | None = None
    model_id: str = ""


Outcome = tuple[Played, References, dict[str, float]]
"""What was played, what to judge it by, and metrics that the records do not hold."""
PlayRun = Callable[[RunSpec, Run, Path, Terminal], Outcome]


def evaluate(
    config: EvaluationConfig, place: RunDirectory, terminal: Terminal | None = None, *, wait: bool = True
) -> dict[str, float]:
    """Run one evaluation, or take over an equal one that a sweep need not make again; returns its metrics by name.

    Args:
        config: what is asked for.
        place: where it leaves its results.
        terminal: shows what goes on.
        wait: whether to wait where another process is making the same run of a sweep.

    Raises:
        UserError: something a user can mend; other exceptions are bugs. Either way the MLflow run ends as FAILED, and
            as KILLED on KeyboardInterrupt.
        RunElsewhere: another process is making this run, and one should not wait.
    """
    terminal = terminal or Terminal()
    (place.directory / "logs").mkdir(parents=True, exist_ok=True)  # from now on anything may log
    plan = make_plan(config, terminal)
    identity = identify(plan)
    store = _store(config)
    finished = RunIndex(Path(config.sweep.index))
    play_run = play_virtual if config.virtual else play_realtime
    if identity is None or place.sweep is None:
        return make_run(plan, place, terminal, play_run, identity)
    with finished.claimed(identity.digest(), wait):
        equal = None if config.sweep.rerun else finished.find(identity.digest(), store)
        if equal is None:
            return make_run(plan, place, terminal, play_run, identity)
        return _take_over(equal, plan, place, store, terminal)


def make_run(
    plan: RunSpec, place: RunDirectory, terminal: Terminal, play_run: PlayRun, identity: Identity | None = None
) -> dict[str, float]:
    """Play and judge; the run is FINISHED in MLflow, then in its folder, then for all other sweeps.

    Args:
        plan: of the run.
        place: where it leaves its results.
        terminal: shows what goes on.
        play_run: gives what was played, what to judge it by, and further metrics.
        identity: by which other sweeps may find it; None for a run that nobody should take over.
    """
    config, digest = plan.config, identity.digest() if identity else ""
    store = _store(config)
    place.forget_summary()
    terminal.header("ViTMAlis evaluation", describe(plan), stand_ins(plan))
    tags = tags_of(plan, place) | {"identity": digest}
    with store.run(plan.title, tags) as run, _logs_kept(run, place.directory):
        run.log_params(flat(config))
        run.log_artifact(_write_config(config, place.directory))
        fetch_weights(config.model)
        played, references, extra = play_run(plan, run, place.directory, terminal)
        metrics = summarise(played.frames, played.offloads, references.detections, plan.rule) | extra
        run.log_metrics(metrics)
        report(plan, played, references.detections, run, place.directory, terminal)
    place.write_summary("FINISHED", metrics, run_id=run.run_id, identity=digest, stand_ins=stand_ins(plan))
    if identity is not None and not (extra.get("server_deaths") or extra.get("relay_deaths")):  # nothing to rely on
        RunIndex(Path(config.sweep.index)).note(
            IndexEntry(
                identity=digest, run_dir=place.run_dir, run_id=run.run_id, store=store.name, metrics=dict(metrics)
            )
        )
    terminal.result(metrics, _places(config, place))
    return metrics


def _store(config: EvaluationConfig) -> Store:
    """Opened once in a process: looking for dead runs takes longer than composing a run of a sweep."""
    where = config.mlflow
    return _opened(where.tracking_uri, where.experiment, Path(where.artifact_dir), Path.cwd())


@lru_cache(maxsize=4)
def _opened(tracking_uri: str, experiment: str, artifact_dir: Path, _here: Path) -> Store:
    """A relative address means another store in another folder."""
    return Store(tracking_uri, experiment, artifact_dir)


def _take_over(
    equal: IndexEntry, plan: RunSpec, place: RunDirectory, store: Store, terminal: Terminal
) -> dict[str, float]:
    """Let an equal run stand for this one; it may have been made right here before the sweep was interrupted."""
    terminal.note(f"{plan.title}: an equal run has finished, {equal.run_dir} (sweep.rerun=true makes it again)")
    if equal.run_dir != place.run_dir:
        facts: dict[str, Any] = {"run_id": equal.run_id, "run_dir": equal.run_dir, "identity": equal.identity}
        facts["stand_ins"] = stand_ins(plan)
        place.write_summary("FINISHED", equal.metrics, skipped=True, **facts)
        if place.parent_run_id:
            store.tag(equal.run_id, {f"sweep.taken_over.{place.parent_run_id}": str(place.number)})
    return equal.metrics


def play_realtime(plan: RunSpec, run: Run, directory: Path, terminal: Terminal) -> Outcome:
    """Server, link and client as processes; what they recorded, what to judge it by, no further metrics."""
    config = plan.config
    # The server and the link come first: a busy port should not be found out after minutes of references.
    with (
        processes.server(config, directory) as server,
        processes.relay(config.link, server.address, plan.trace, directory, config.server.restart) as link,
    ):
        references = find_references(plan, run, terminal)
        played = play(plan, server, link, references.model_id, run, directory, terminal)
        return played, references, {"server_deaths": len(server.deaths), "relay_deaths": len(link.deaths)}


def play_virtual(plan: RunSpec, run: Run, directory: Path, terminal: Terminal) -> Outcome:
    """Everything in this process under the virtual clock; the metrics say what it cost, and what the cache saved."""
    from vitmalis_jobs.run.virtual import play_virtually

    began_s = time.process_time()
    references = find_references(plan, run, terminal)
    played, cache_metrics = play_virtually(plan, references.model_id, references.detections or [], directory, terminal)
    return played, references, cache_metrics | {"cpu_s": time.process_time() - began_s}


def find_references(plan: RunSpec, run: Run, terminal: Terminal) -> References:
    """Reference detections of the played frames, where there can be any."""
    if plan.clip.live:
        terminal.warn("a live source has no references: F1 is left out")
        return References()
    detector = loaded_detector(plan.config.model)
    run.tag({"model_id": detector.model_id})
    with terminal.progress("references (full resolution, kept for later runs)") as step:
        detections = compute_references(plan.clip, detector, step, workers=plan.config.references.workers)
        return References(detections, detector.model_id)


def play(
    plan: RunSpec, server: Reached, link: Reached, model_id: str, run: Run, directory: Path, terminal: Terminal
) -> Played:
    """Let the clip play against a server behind a link; what went wrong on the way is said and tagged."""
    try:
        with terminal.progress("playing") as step:
            played = processes.play(
                plan.session(link.address, model_id, directory),
                plan.config.client.threads,
                directory,
                lambda done, total, offloads, lost: step(done, total, f"{offloads} offloads, {lost} lost"),
                link.shell,
            )
    finally:
        for name, reached in (("server", server), ("relay", link)):
            _tell_deaths(name, reached, run, directory, terminal)
    lost = sum(offload.status != "ok" for offload in played.offloads)
    if lost:
        terminal.warn(f"{lost} of {len(played.offloads)} offloads lost; offloads.parquet has the reasons")
    return played


def _tell_deaths(name: str, reached: Reached, run: Run, directory: Path, terminal: Terminal) -> None:
    """Say and tag how often a process died while the clip played."""
    if not reached.deaths or reached.process is None:
        return
    times = f"{len(reached.deaths)} x" if len(reached.deaths) > 1 else "once"
    fate = f"ended during the run, {times} ({reached.deaths[-1]})"
    run.tag({name: fate})
    terminal.warn(f"the {name} {fate}{reached.process.sequel}; see {directory / 'logs' / f'{name}.log'}")


def _write_config(config: EvaluationConfig, directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "config.yaml"
    path.write_bytes(msgspec.yaml.encode(config))
    return path


@contextmanager
def _logs_kept(run: Run, directory: Path) -> Iterator[None]:
    """Keep what the processes said, above all when something failed."""
    try:
        yield
    finally:
        for path in sorted((directory / "logs").glob("*.log")):
            run.log_artifact(path, "logs")


def _places(config: EvaluationConfig, place: RunDirectory) -> dict[str, str]:
    film = place.directory / FILM_FILE
    places = {"film": str(film)} if film.exists() else {}
    uri = config.mlflow.tracking_uri
    places["compare"] = "make ui" if uri == "sqlite:///runs/mlflow.db" else f"mlflow ui --backend-store-uri {uri}"
    return places | {"records": str(place.directory)}
