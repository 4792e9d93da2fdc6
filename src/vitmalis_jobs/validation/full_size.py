"""1920x1080 frames at 30 FPS through the real client: which stages keep up, and where its time goes.

`python -m validation.full_size` plays a rendered street scene. The server is real but for its model: a stub sleeps as
long as `latency=h200` says that ViTDet-L takes, and answers the same boxes for every frame, so that the result is about
the client and not about accuracy. It decodes what it receives on this machine, and the link in between has a constant
rate. One JSON object goes to standard output and, with the run's records, to `runs/full_size`; `hit` and `missed` name
the bars that were and were not reached.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from vitmalis.client.session import ClientSession
from vitmalis.command_line import CommandLine
from vitmalis.estimation import LatencyTables, save_latency_tables
from vitmalis.network.traces import constant_trace
from vitmalis.regions import ModelGeometry
from vitmalis.types import Detections, OffloadStatus
from vitmalis.video.encode import write_clip
from vitmalis.video.spec import VideoSpec, open_video
from vitmalis.video.standin import StreetScene
from vitmalis.virtual.measured_testbed import h200_table, measured_testbed
from vitmalis_jobs.common.arguments import check_positive
from vitmalis_jobs.common.cli import job_parser, option_job
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.job_output import emit
from vitmalis_jobs.common.machine_load import LoadMeter
from vitmalis_jobs.run import processes
from vitmalis_jobs.run.records import RunRecords
from vitmalis_jobs.validation.looped_clip import loop_clip
from vitmalis_jobs.validation.stub_server import SleepingDetector, stub_server

WIDTH, HEIGHT, FPS = 1920, 1080, 30.0
SCENE, SEED, OBJECTS = "walkB", 7, 10
RENDERED = 24
"""Frames that are rendered; the clip plays them forwards and backwards, over and over."""
SERVED_MODEL = "vitdet_l"
GEOMETRY = ModelGeometry(window=9, factor=2, patch_px=16, restoration_points=4)
"""Regions of ViTDet-L as the paper runs it."""
ESTIMATORS = "vitdet_tiny"
"""Model whose estimators the policy uses: there are none of `SERVED_MODEL`."""
STUB = f"stub that sleeps latency=h200 of {SERVED_MODEL}"
POLICIES = ("fixed", "vitmalis", "trackb2b")
"""Policies that can be played. The first downsamples whatever has no objects, so that every frame is packed."""
LINK = {"name": "emulated", "transport": "ideal", "queue_bytes": 262_144}
BARS = {"frames_lost_share": 0.01, "boxes_late_frames_median": 1.0}
"""Most that each of these results may be."""
OFFLOAD_STAGES = {
    "decision": "decision_s",
    "pack and encode": "encode_s",
    "decode at the server": "decode_s",
    "inference (stub)": "inference_s",
    "offload, end to end": "e2e_latency_s",
}
"""Stages of an offload by name: the column of its record."""


def full_size_clip(folder: Path, seconds: float, terminal: Terminal) -> tuple[VideoSpec, Detections]:
    """Render a clip of so many seconds; returns it, and the largest boxes of its first frame."""
    scene, images, boxes = StreetScene(SCENE, SEED, WIDTH, HEIGHT), [], Detections.empty()
    for index in range(RENDERED):
        image, found = scene.render(index)
        images.append(image)
        boxes = boxes if index else found
        terminal.step(index + 1, RENDERED, f"rendering {SCENE} at {WIDTH}x{HEIGHT}")
    short, path = folder / "short.mp4", folder / "clip.mp4"
    write_clip(short, itertools.chain(images, images[-2:0:-1]), FPS, (WIDTH, HEIGHT))
    loop_clip(short, path, seconds + 1)
    sides = boxes.boxes_xyxy[:, 2:] - boxes.boxes_xyxy[:, :2]
    note = f"{RENDERED} rendered frames, forwards and backwards"
    clip = VideoSpec(f"{SCENE}-{HEIGHT}p", str(path), FPS, 0, round(seconds * FPS), WIDTH, HEIGHT, note=note)
    return clip, boxes.select(np.argsort(-sides.prod(axis=1))[:OBJECTS])


def session_of(clip: VideoSpec, tables: LatencyTables, policy: str, address: str, folder: Path) -> ClientSession:
    """The client's session; a policy that estimates latencies takes those of the stub."""
    options: dict[str, Any] = {}
    if policy == "vitmalis":
        path = folder / "tables.json"
        save_latency_tables(tables, path)
        options = {"latency_tables": str(path), "model": ESTIMATORS}
    return ClientSession(
        video=clip,
        server_address=address,
        output_dir=str(folder),
        geometry=GEOMETRY,
        policy=f"{policy} with a {STUB}",
        policy_kind=policy,
        policy_options=options,
    )


def play(session: ClientSession, folder: Path, terminal: Terminal) -> tuple[RunRecords, float]:
    """Play a session in a process of its own; returns its records, and the cores that the client used meanwhile."""
    used_s: list[tuple[float, float]] = []
    clients: list[psutil.Process] = []

    def progress(done: int, total: int, offloads: int, lost: int) -> None:
        terminal.step(done, total, "frames", f"{offloads} offloads, {lost} lost")
        if not clients:
            clients.extend(child for child in psutil.Process().children() if "vitmalis.client" in child.cmdline())
        times = clients[0].cpu_times()
        used_s.append((time.monotonic(), times.user + times.system))

    records = processes.play(session, 1, folder, progress)
    (start_s, before_s), (end_s, after_s) = used_s[0], used_s[-1]
    return records, (after_s - before_s) / max(end_s - start_s, 1e-9)


def stages(clip: VideoSpec, records: RunRecords) -> list[dict[str, Any]]:
    """Times of each stage as recorded; decoding is timed on the first frames of the clip, alone."""
    elapsed_s = clip.frames / clip.fps
    tracking_s = [frame.tracking_s for frame in records.frames if frame.tracking_s is not None]

    def of_offloads(column: str) -> list[float]:
        return [value for offload in records.offloads if (value := getattr(offload, column)) is not None]

    return [
        stage("decode and convert", decode_times_s(clip), clip.fps),
        stage("tracking job", tracking_s, len(tracking_s) / elapsed_s),
        stage("motion analysis", of_offloads("motion_s"), clip.fps),
        *(
            stage(name, of_offloads(column), len(of_offloads(column)) / elapsed_s)
            for name, column in OFFLOAD_STAGES.items()
        ),
    ]


def stage(name: str, durations_s: Sequence[float], per_s: float) -> dict[str, Any]:
    """A row about a stage that is to run `per_s` times a second: `busy` is its share of the time, above 1 too slow."""
    if not durations_s:
        return {"stage": name}
    median_s, p90_s = np.percentile(durations_s, (50, 90)).tolist()
    return {
        "stage": name,
        "median_ms": round(1e3 * median_s, 2),
        "p90_ms": round(1e3 * p90_s, 2),
        "per_s": round(per_s, 1),
        "busy": round(float(np.mean(durations_s)) * per_s, 3),
    }


def decode_times_s(clip: VideoSpec, frames: int = 60) -> list[float]:
    """Times to decode and convert each of the first frames."""
    times_s = [time.perf_counter() for _ in itertools.islice(open_video(clip), frames + 1)]
    return np.diff(times_s).tolist()


def kept_up(records: RunRecords) -> dict[str, Any]:
    """Share of the frames that the camera lost, and how many frames older than a frame the boxes on it were."""
    frames = records.frames
    captured = [frame for frame in frames if frame.captured]
    late = [frame.frame_index - frame.shown_frame_index for frame in frames if frame.shown_frame_index >= 0]
    offloads = records.offloads
    return {
        "frames": len(frames),
        "frames_lost_share": round(1 - len(captured) / len(frames), 4),
        "boxes_late_frames_median": float(np.median(late)) if late else math.inf,
        "boxes_late_frames_p90": float(np.percentile(late, 90)) if late else math.inf,
        "offloads": len(offloads),
        "offloads_lost": sum(offload.status != OffloadStatus.OK for offload in offloads),
        "low_share_mean": round(float(np.mean([each.downsampled_regions / each.regions for each in offloads])), 3),
        "payload_bytes_median": float(np.median([each.payload_bytes for each in offloads if each.payload_bytes])),
    }


def measure(options: argparse.Namespace, folder: Path, terminal: Terminal) -> dict[str, Any]:
    """Play a clip as the command line says, and describe what kept up.

    Raises:
        UserError: the policy cannot be used, or the client failed.
    """
    clip, boxes = full_size_clip(folder, options.seconds, terminal)
    tables = measured_testbed(
        h200_table(),
        SERVED_MODEL,
        "stub",
        ESTIMATORS,
        GEOMETRY.grid(WIDTH, HEIGHT),
        GEOMETRY.restoration_points,
    )
    trace = constant_trace(options.mbps, options.rtt_ms)
    with (
        stub_server(SleepingDetector(tables, boxes, GEOMETRY, STUB)) as address,
        processes.relay(LINK, address, trace, folder) as link,
    ):
        records, cores = play(session_of(clip, tables, options.policy, link.address, folder), folder, terminal)
    rows = stages(clip, records)
    terminal.table("stages of the client and of an offload", rows, list(rows[0]))
    return {
        "clip": f"{clip.name}: {clip.note}",
        "server": f"{STUB}, and decodes on this machine",
        "link": trace.name,
        "policy": options.policy,
        **kept_up(records),
        "client_cores": round(cores, 2),
        "stages": rows,
    }


def command_line() -> CommandLine:
    """The options of this job."""
    parser = job_parser(
        "validation.full_size",
        "Play 1920x1080 at 30 FPS through the real client, and show which stages keep up and where its time goes.",
        {
            "": "20 s of video",
            "--policy vitmalis --mbps 20": "another policy on a slower uplink",
        },
        f"Bars: {BARS}. Exit status 1: one was missed.",
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="seconds of video")
    parser.add_argument("--policy", default=POLICIES[0], choices=POLICIES, help="policy of the client")
    parser.add_argument("--mbps", type=float, default=50.0, help="rate of the uplink in Mbit/s")
    parser.add_argument("--rtt-ms", type=float, default=20.0, help="round-trip time in ms")
    parser.add_argument("--folder", type=Path, default=Path("runs/full_size"), help="folder of records and result")
    return parser


def check(options: argparse.Namespace) -> bool:
    """Measure, print and store the result; false if a bar was missed."""
    check_positive(options, "seconds")
    options.folder.mkdir(parents=True, exist_ok=True)
    meter = LoadMeter()
    result = measure(options, options.folder.absolute(), Terminal.on_stderr())
    missed = [name for name, bar in BARS.items() if result[name] > bar]
    hit = [name for name in BARS if name not in missed]
    emit({**result, "bars": BARS, "hit": hit, "missed": missed}, options.folder / "full_size.json", meter.load())
    return not missed


main = option_job(command_line, check)


if __name__ == "__main__":
    sys.exit(main())
