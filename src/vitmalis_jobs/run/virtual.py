"""The virtual executor: devices, links and server in this process, on a clock that is computed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import cv2

from vitmalis.client.recorder import Progress, Recorder
from vitmalis.client.session import SESSION_FILE, write_session
from vitmalis.estimation import load_latency_tables
from vitmalis.policy import build_policy
from vitmalis.records import RecordsInfo, write_run
from vitmalis.server.token_cache import TokenCache
from vitmalis.video.spec import content_digest, open_video
from vitmalis.virtual.cache import InferenceCache
from vitmalis.virtual.client import VirtualClient, play
from vitmalis.virtual.durations import Durations
from vitmalis.virtual.events import EventQueue
from vitmalis.virtual.network import connect
from vitmalis.virtual.server import VirtualServer
from vitmalis.virtual.worker import VirtualWorker
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.run.devices import Device, DeviceResult, device_folder, device_runs
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
    devices = _devices(run, directory, resources, terminal, tag)
    options = run.config.inference_cache
    cache = resources.inference_cache(run.config.model, options.max_gb) if options.enabled else None
    hits, misses = (cache.hits, cache.misses) if cache else (0, 0)
    first, *others = _play(devices, cache, resources, terminal)
    metrics = {"cpu_s": time.process_time() - started_s}
    if cache:
        metrics |= {"cache_hits": cache.hits - hits, "cache_misses": cache.misses - misses}
    return RunResult(first.records, first.device.references, metrics, busy=run.busy, others=others)


def _devices(run: PreparedRun, directory: Path, resources: Resources, terminal: Terminal, tag: Tag) -> list[Device]:
    """The devices of a run, all with references or none: what leaves the first one without holds for the others."""
    first, *others = device_runs(run, terminal)
    references = find_references(first, resources, terminal, tag)
    devices = [Device(first, 0, device_folder(directory, 0), references)]
    for number, own in enumerate(others, start=1):
        found = None if references is None else find_references(own, resources, terminal, tag)
        devices.append(Device(own, number, device_folder(directory, number), found))
    return devices


def _play(
    devices: Sequence[Device], cache: InferenceCache | None, resources: Resources, terminal: Terminal
) -> list[DeviceResult]:
    """Let all devices play at the same time against one server, and write the records of each."""
    run, folder = devices[0].run, devices[0].folder
    cv2.setNumThreads(run.config.client.threads)
    room = Room(folder, run.config.mlflow)
    detector = resources.detector(run.config.model)
    worker = VirtualWorker(EventQueue(), run.spec.model.geometry)

    def progress(done: int, *_: int) -> None:
        offloads = sum(client.recorder.offload_count for client in clients)
        lost = sum(client.recorder.lost_offloads for client in clients)
        step(done, run.clip.frames, f"{offloads} offloads, {lost} lost")
        room.check()

    tokens = TokenCache()

    def server(device: Device) -> VirtualServer:
        clip, client = device.run.clip, str(device.number).encode()
        return VirtualServer(detector, clip, content_digest(clip), cache, tokens, client)

    with terminal.progress("playing in virtual time") as step:
        clients = [_client(device, server(device), worker, progress, resources) for device in devices]
        play(clients)
    return [
        DeviceResult(device, _write_records(device, client.recorder))
        for device, client in zip(devices, clients, strict=True)
    ]


def _client(
    device: Device, server: VirtualServer, worker: VirtualWorker, progress: Progress, resources: Resources
) -> VirtualClient:
    """The client of a device, with a policy and a link of its own; also write what it plays."""
    run, config = device.run, device.run.config
    device.folder.mkdir(parents=True, exist_ok=True)
    session = run.session("", device.folder)
    write_session(session, device.folder / SESSION_FILE)
    if run.spec.emulated:
        write_trace(run.spec.trace, device.folder)
    client = VirtualClient(
        session,
        build_policy(config.policy_kind, **run.policy_options),
        server,
        connect(config.link["name"], run.spec.trace, config.link.get("transport", "ideal")),
        _durations(device),
        progress,
        open_video if device.number else resources.images,  # only the first one plays what other runs play, too
        worker,
    )
    if device.references is not None:
        client.attach_lookahead(device.references, run.spec.rule)
    return client


def _write_records(device: Device, recorder: Recorder) -> RunRecords:
    records, spec = RunRecords(recorder.frames(), recorder.offloads(), recorder.decisions()), device.run.spec
    info = RecordsInfo(
        policy=spec.config.policy_name, clip=device.run.clip.name, trace=spec.trace_name, clock="virtual"
    )
    write_run(device.folder, info, records.frames, records.offloads, records.decisions)
    return records


def _durations(device: Device) -> Durations:
    """The configured durations, from the run's latency tables; samples of each device are others."""
    run = device.run
    if run.latency_tables is None:
        raise RuntimeError("a virtual run was prepared without latency tables")
    tables, latency = load_latency_tables(run.latency_tables), run.config.latency
    seed = latency.seed + device.number if latency.name == "sampled" else None
    return Durations(tables, seed, tracker_times(run.config.client.tracker))
