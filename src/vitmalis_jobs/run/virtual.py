"""The virtual executor: client, link and server in this process, on a clock that is computed."""

from __future__ import annotations

import time
from pathlib import Path

import cv2

from vitmalis.client.session import SESSION_FILE, write_session
from vitmalis.estimation import load_latency_tables
from vitmalis.policy import build_policy
from vitmalis.records import RecordsInfo, write_run
from vitmalis.types import Detections
from vitmalis.video.spec import content_digest
from vitmalis.virtual.client import VirtualClient
from vitmalis.virtual.durations import Durations
from vitmalis.virtual.network import connect
from vitmalis.virtual.server import VirtualServer
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.run.execute import RunResult, Tag, find_references
from vitmalis_jobs.run.records import RunRecords
from vitmalis_jobs.run.resources import Resources
from vitmalis_jobs.run.room import Room
from vitmalis_jobs.run.spec import PreparedRun
from vitmalis_jobs.run.trace_file import write_trace
from vitmalis_jobs.run.tracker_times import tracker_times


def play_virtual(run: PreparedRun, directory: Path, resources: Resources, terminal: Terminal, tag: Tag) -> RunResult:
    """Play the run on the virtual clock; see `Executor`. The metrics say what it cost and what the cache saved."""
    started_s = time.process_time()
    references = find_references(run, resources, terminal, tag)
    options = run.config.inference_cache
    cache = resources.inference_cache(run.config.model, options.max_gb) if options.enabled else None
    hits, misses = (cache.hits, cache.misses) if cache else (0, 0)
    detector = resources.detector(run.config.model)
    server = VirtualServer(detector, run.clip, content_digest(run.clip), cache)
    records = _play(run, server, references, directory, resources, terminal)
    metrics = {"cpu_s": time.process_time() - started_s}
    if cache:
        metrics |= {"cache_hits": cache.hits - hits, "cache_misses": cache.misses - misses}
    return RunResult(records, references, metrics, busy=run.busy)


def _play(
    run: PreparedRun,
    server: VirtualServer,
    references: list[Detections] | None,
    directory: Path,
    resources: Resources,
    terminal: Terminal,
) -> RunRecords:
    """Play the clip against a server and write the records."""
    config, session = run.config, run.session("", directory)
    write_session(session, directory / SESSION_FILE)
    if run.spec.emulated:
        write_trace(run.spec.trace, directory)
    cv2.setNumThreads(config.client.threads)
    room = Room(directory, config.mlflow)

    def progress(done: int, offloads: int, lost: int) -> None:
        step(done, run.clip.frames, f"{offloads} offloads, {lost} lost")
        room.check()

    with terminal.progress("playing in virtual time") as step:
        client = VirtualClient(
            session,
            build_policy(config.policy_kind, **run.policy_options),
            server,
            connect(config.link["name"], run.spec.trace, config.link.get("transport", "ideal")),
            _durations(run),
            progress,
            resources.images,
        )
        if references is not None:
            client.attach_lookahead(references, run.spec.rule)
        client.play()
    recorder = client.recorder
    records = RunRecords(recorder.frames(), recorder.offloads(), recorder.decisions())
    info = RecordsInfo(policy=session.policy, clip=session.video.name, trace=session.trace, clock="virtual")
    write_run(directory, info, records.frames, records.offloads, records.decisions)
    return records


def _durations(run: PreparedRun) -> Durations:
    """The configured durations, from the run's latency tables."""
    if run.latency_tables is None:
        raise RuntimeError("a virtual run was prepared without latency tables")
    tables, latency = load_latency_tables(run.latency_tables), run.config.latency
    seed = latency.seed if latency.name == "sampled" else None
    return Durations(tables, seed, tracker_times(run.config.client.tracker))
