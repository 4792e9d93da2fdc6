"""One evaluation from its configuration to its MLflow run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from evaluation import processes
from evaluation.config import EvaluationConfig, flat
from evaluation.models import loaded_detector
from evaluation.plan import Plan, describe, fetch_weights, make_plan, stand_ins, tags_of
from evaluation.processes import Played, Served
from evaluation.report import FILM_FILE, report
from evaluation.store import Run, Store
from evaluation.sweep import RunPlace
from evaluation.terminal import Terminal
from vitmalis.metrics import summarise
from vitmalis.references import compute_references
from vitmalis.types import Detections


@dataclass(frozen=True, slots=True)
class References:
    """What the run is judged by.

    Attributes:
        detections: one `Detections` a played frame; None for a live source, whose frames nobody can see twice.
        model_id: of the model they come from, which the server must serve, too; empty for none.
    """

    detections: list[Detections] | None = None
    model_id: str = ""


def evaluate(config: EvaluationConfig, place: RunPlace, terminal: Terminal | None = None) -> dict[str, float]:
    """Run one evaluation; returns its metrics by name.

    Raises:
        UserError: something a user can mend; other exceptions are bugs. Either way the MLflow run ends as FAILED, and
            as KILLED on KeyboardInterrupt.
    """
    terminal = terminal or Terminal()
    (place.directory / "logs").mkdir(parents=True, exist_ok=True)  # from now on anything may log
    plan = make_plan(config, terminal)
    store = Store(config.mlflow.tracking_uri, config.mlflow.experiment, Path(config.mlflow.artifact_dir))
    terminal.header("ViTMAlis evaluation", describe(plan), stand_ins(plan))
    with store.run(plan.title, tags_of(plan, place)) as run, _logs_kept(run, place.directory):
        run.log_params(flat(config))
        run.log_artifact(_write_config(config, place.directory))
        fetch_weights(config.model)
        play_run = play_virtual if config.virtual else play_realtime
        played, references, extra = play_run(plan, run, place.directory, terminal)
        metrics = summarise(played.frames, played.offloads, references.detections, plan.rule) | extra
        run.log_metrics(metrics)
        report(plan, played, references.detections, run, place.directory, terminal)
    place.write_summary("FINISHED", metrics, run_id=run.run_id)
    terminal.result(metrics, _places(config, place))
    return metrics


def play_realtime(
    plan: Plan, run: Run, directory: Path, terminal: Terminal
) -> tuple[Played, References, dict[str, float]]:
    """Server, link and client as processes; what they recorded, what to judge it by, no further metrics."""
    config = plan.config
    # The server and the link come first: a busy port should not be found out after minutes of references.
    with (
        processes.server(config, directory) as server,
        processes.relay(config.link, server.address, plan.trace, directory) as address,
    ):
        references = find_references(plan, run, terminal)
        return play(plan, server, address, references.model_id, run, directory, terminal), references, {}


def play_virtual(
    plan: Plan, run: Run, directory: Path, terminal: Terminal
) -> tuple[Played, References, dict[str, float]]:
    """Everything in this process under the virtual clock; the metrics are those of the inference cache."""
    from evaluation.virtual import play_virtually

    references = find_references(plan, run, terminal)
    played, cache_metrics = play_virtually(plan, references.model_id, directory, terminal)
    return played, references, cache_metrics


def find_references(plan: Plan, run: Run, terminal: Terminal) -> References:
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
    plan: Plan, server: Served, address: str, model_id: str, run: Run, directory: Path, terminal: Terminal
) -> Played:
    """Let the clip play against the server at (or behind) `address`; what went wrong on the way is said and tagged."""
    try:
        with terminal.progress("playing") as step:
            played = processes.play(
                plan.session(address, model_id, directory),
                plan.config.client.threads,
                directory,
                lambda done, total, offloads, lost: step(done, total, f"{offloads} offloads, {lost} lost"),
            )
    finally:
        if server.fate:
            run.tag({"server": f"ended during the run: {server.fate}"})
            log = directory / "logs" / "server.log"
            terminal.warn(f"the server ended during the run ({server.fate}; see {log})")
    lost = sum(offload.status != "ok" for offload in played.offloads)
    if lost:
        terminal.warn(f"{lost} of {len(played.offloads)} offloads lost; offloads.parquet has the reasons")
    return played


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


def _places(config: EvaluationConfig, place: RunPlace) -> dict[str, str]:
    film = place.directory / FILM_FILE
    places = {"film": str(film)} if film.exists() else {}
    uri = config.mlflow.tracking_uri
    places["compare"] = "make ui" if uri == "sqlite:///runs/mlflow.db" else f"mlflow ui --backend-store-uri {uri}"
    return places | {"records": str(place.directory)}
