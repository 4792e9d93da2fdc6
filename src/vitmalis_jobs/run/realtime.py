"""The real-time executor: server, link and client are processes, and durations are what they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from vitmalis.types import Detections
from vitmalis.video.recording import RECORDING_FILE
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.run import processes
from vitmalis_jobs.run.disturbance import DisturbanceMeter
from vitmalis_jobs.run.execute import RunResult, Tag, find_references
from vitmalis_jobs.run.live import live_view
from vitmalis_jobs.run.processes import Endpoint
from vitmalis_jobs.run.records import RunRecords
from vitmalis_jobs.run.resources import Resources
from vitmalis_jobs.run.room import Room
from vitmalis_jobs.run.spec import PreparedRun


def play_realtime(run: PreparedRun, directory: Path, resources: Resources, terminal: Terminal, tag: Tag) -> RunResult:
    """Start server and link, let the client play the clip against them; see `Executor`."""
    config, meter = run.config, DisturbanceMeter()  # the processes that are started from here on are the run's own
    # Server and link are started first, so that a busy port is found out before minutes of references are computed.
    with (
        processes.server(config, directory) as server,
        processes.relay(config.link, server.address, run.spec.trace, directory, config.server.restart) as link,
    ):
        references = find_references(run, resources, terminal, tag)
        meter.start(server)
        with _outputs(run, references, directory, terminal) as outputs:
            records = _play(run, server, link, directory, outputs, terminal, tag)
        disturbance = meter.stop(run, server, records.offloads)
        _report_losses(records, terminal)
        exits = {"server_exits": float(len(server.exits)), "relay_exits": float(len(link.exits))}
        return RunResult(
            records,
            references,
            metrics=exits | disturbance.metrics,
            busy=[*disturbance.reasons, *run.busy],
            whole=not any(exits.values()),
        )


@contextmanager
def _outputs(
    run: PreparedRun, references: Sequence[Detections] | None, directory: Path, terminal: Terminal
) -> Iterator[list[str]]:
    """Arguments by which the client gives out its recording and its view, the latter to a page that is served here."""
    recording = [f"--record={directory / RECORDING_FILE}"] if run.config.output.record else []
    if not run.config.output.live:
        yield recording
        return
    with live_view(run, references) as (url, arguments):
        terminal.note(f"live: {url}")
        yield recording + arguments


def _play(
    run: PreparedRun,
    server: Endpoint,
    link: Endpoint,
    directory: Path,
    outputs: Sequence[str],
    terminal: Terminal,
    tag: Tag,
) -> RunRecords:
    """Let the client play the clip; report and tag processes that exited and offloads that were lost."""
    room = Room(directory, run.config.mlflow)

    def progress(done: int, total: int, offloads: int, lost: int) -> None:
        step(done, total, f"{offloads} offloads, {lost} lost")
        room.check()

    try:
        with terminal.progress("playing") as step:
            records = processes.play(
                run.session(link.address, directory),
                run.config.client.threads,
                directory,
                progress,
                link.shell,
                outputs,
                terminal.warn,
            )
    finally:
        for name, endpoint in (("server", server), ("relay", link)):
            _report_exits(name, endpoint, directory, terminal, tag)
    return records


def _report_losses(records: RunRecords, terminal: Terminal) -> None:
    """Report lost offloads and lost frames."""
    lost = sum(offload.status != "ok" for offload in records.offloads)
    if lost:
        terminal.warn(f"{lost} of {len(records.offloads)} offloads lost; offloads.parquet has the reasons")
    undelivered = sum(bool(frame.undelivered) for frame in records.frames)
    if undelivered:
        terminal.warn(f"{undelivered} of {len(records.frames)} frames lost by the camera: their images came too late")
    missed = sum(not frame.captured for frame in records.frames) - undelivered
    if missed:
        terminal.warn(f"{missed} of {len(records.frames)} frames lost by the camera: the client was too slow for them")


def _report_exits(name: str, endpoint: Endpoint, directory: Path, terminal: Terminal, tag: Tag) -> None:
    """Report and tag how often a process exited while the clip played."""
    if not endpoint.exits or endpoint.process is None:
        return
    times = f"{len(endpoint.exits)} x" if len(endpoint.exits) > 1 else "once"
    summary = f"ended during the run, {times} ({endpoint.exits[-1]})"
    tag({name: summary})
    terminal.warn(f"the {name} {summary}{endpoint.process.outcome}; see {directory / 'logs' / f'{name}.log'}")
