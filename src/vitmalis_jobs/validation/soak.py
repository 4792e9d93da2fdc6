"""Soak test of half an hour in real time, for memory growth and drift of the pacing: `python -m validation.soak`.

A real client, relay and server play the clip over and over as one long video. The resident memory of the three
processes is sampled every few seconds; the records say when each frame was captured. One JSON object goes to standard
output and, with a figure, to `runs/soak`; `missed` names the bars that were not reached.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from vitmalis.command_line import CommandLine
from vitmalis.metrics import summarise
from vitmalis_jobs.common.arguments import add_overrides
from vitmalis_jobs.common.background import in_background
from vitmalis_jobs.common.cli import job_parser, option_job
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.job_output import emit
from vitmalis_jobs.common.machine_load import LoadMeter
from vitmalis_jobs.common.plotting import canvas, colour, save_figure
from vitmalis_jobs.run import processes
from vitmalis_jobs.run.records import RunRecords
from vitmalis_jobs.run.spec import PreparedRun
from vitmalis_jobs.validation.looped_clip import loop_clip
from vitmalis_jobs.validation.prepared_run import prepared_run

BARS = {"client_growth_mb": 20.0, "server_growth_mb": 20.0, "relay_growth_mb": 10.0, "drift_frames": 1.0}
"""Upper limits; growth counts from a sixth of the time on, when buffers and caches are full."""
SAMPLE_S = 5.0
PROCESSES = ("client", "relay", "server")

MemoryRow = dict[str, float]
"""A sample: `time_s`, and the resident memory of each process that runs, MB."""


def soak(minutes: float, folder: Path, overrides: Sequence[str], terminal: Terminal) -> dict[str, Any]:
    """Play a clip for so long and measure.

    Raises:
        UserError: the run that the overrides describe cannot be made.
    """
    short = prepared_run([*overrides, "eval.seconds=3600"], terminal)
    clip = folder / "clip.mp4"
    loop_clip(Path(short.clip.path), clip, 60 * minutes + 5)
    looped = [f"video.path={clip}", f"eval.seconds={60 * minutes}"]
    prepared = prepared_run([*overrides, "video=file", *looped], terminal)
    played, rows = play(prepared, folder, terminal)
    write_memory(rows, folder)
    draw_memory(rows, folder / "memory.png")
    terminal.note(f"plot: {folder / 'memory.png'}")
    return {
        "minutes": minutes,
        **played_result(played, prepared.clip.fps),
        **memory_result(rows),
        "log_bytes": sum(path.stat().st_size for path in (folder / "logs").glob("*.log")),
    }


def play(prepared: PreparedRun, folder: Path, terminal: Terminal) -> tuple[RunRecords, list[MemoryRow]]:
    """Play a run in real time; returns its records and the memory of its processes meanwhile."""
    config = prepared.config
    with (
        processes.server(config, folder) as server,
        processes.relay(config.link, server.address, prepared.spec.trace, folder) as link,
    ):
        started = {"server": server.process, "relay": link.process}
        pids = {name: process.pid for name, process in started.items() if process}

        def running() -> dict[str, int]:
            for child in psutil.Process().children():
                if "vitmalis.client" in child.cmdline():
                    pids["client"] = child.pid
            return pids

        def progress(done: int, total: int, offloads: int, lost: int) -> None:
            terminal.step(done, total, "frames", f"{offloads} offloads, {lost} lost")

        with memory_samples(running) as rows:
            session = prepared.session(link.address, folder)
            played = processes.play(session, config.client.threads, folder, progress)
    return played, rows


@contextmanager
def memory_samples(running: Callable[[], dict[str, int]]) -> Iterator[list[MemoryRow]]:
    """Sample the memory of processes, ids by name, inside the block; yields the list that the samples go to."""
    rows: list[MemoryRow] = []

    def sample(ended: threading.Event) -> None:
        start_s = time.monotonic()
        while not ended.wait(SAMPLE_S):
            row = {"time_s": round(time.monotonic() - start_s, 1)}
            for name, pid in running().items():
                try:
                    row[name] = psutil.Process(pid).memory_info().rss / 2**20
                except psutil.Error:  # it has just ended
                    continue
            rows.append(row)

    with in_background(sample, "memory samples"):
        yield rows


def played_result(played: RunRecords, fps: float) -> dict[str, Any]:
    """Counts of frames and offloads, and the drift of the camera over the frames that were captured."""
    metrics = summarise(played.frames, played.offloads, references=None)
    captured = [frame for frame in played.frames if frame.captured]  # the times of lost frames are nominal
    times_s, indices = ([getattr(frame, name) for frame in captured] for name in ("capture_time_s", "frame_index"))
    return {
        "frames": int(metrics["frames"]),
        "frames_lost_by_camera": int(metrics["lost_frames"]),
        "offloads": int(metrics["offloads"]),
        "offloads_lost": int(metrics["lost_offloads"]),
        "drift_frames": round(drift_frames(times_s, indices, fps), 3),
    }


def drift_frames(capture_times_s: Sequence[float], frame_indices: Sequence[int], fps: float) -> float:
    """Shift of the camera's pace from the first tenth of the frames to the last, in frame intervals."""
    late_s = np.asarray(capture_times_s) - np.asarray(frame_indices) / fps
    tenth = max(1, len(late_s) // 10)
    return float(abs(np.median(late_s[-tenth:]) - np.median(late_s[:tenth])) * fps)


def memory_result(rows: Sequence[MemoryRow]) -> dict[str, float]:
    """Growth and peak of the resident memory of each process, MB; no growth of a process without samples."""
    sampled = [name for name in PROCESSES if any(name in row for row in rows)]
    growth = {f"{name}_growth_mb": round(growth_mb(rows, name), 1) for name in sampled}
    peaks = {f"{name}_mb": round(max((row.get(name, 0.0) for row in rows), default=0.0), 1) for name in PROCESSES}
    return growth | peaks


def growth_mb(rows: Sequence[MemoryRow], name: str) -> float:
    """Growth of a process from the second sixth of the time to the last, in medians, MB."""
    values = [row[name] for row in rows if name in row]
    sixth = max(1, len(values) // 6)
    return float(np.median(values[-sixth:]) - np.median(values[sixth : 2 * sixth]))


def write_memory(rows: Sequence[MemoryRow], folder: Path) -> None:
    """Write the samples as `memory.csv`."""
    with (folder / "memory.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["time_s", *PROCESSES])
        writer.writeheader()
        writer.writerows(rows)


def draw_memory(rows: Sequence[MemoryRow], path: Path) -> None:
    """Draw the resident memory of each process over time."""
    figure, (axes,) = canvas("resident memory")
    for position, name in enumerate(PROCESSES):
        own = [(row["time_s"] / 60, row[name]) for row in rows if name in row]
        if own:
            axes.plot(*zip(*own, strict=True), color=colour(position), label=name)
    axes.set(xlabel="minutes", ylabel="MB", ylim=(0, None))
    axes.legend()
    save_figure(figure, path)


def command_line() -> CommandLine:
    """The options of this job."""
    parser = job_parser(
        "validation.soak",
        "Play in real time for a long time and watch memory growth and drift of the pacing.",
        {
            "": "half an hour of the default",
            "--minutes 3 policy=vitmalis": "a quick look at another policy",
        },
        f"Bars: {BARS}. Exit status 1: one was missed.",
    )
    parser.add_argument("--minutes", type=float, default=30.0, help="minutes to play")
    parser.add_argument("--folder", type=Path, default=Path("runs/soak"), help="folder of records, logs and result")
    add_overrides(parser)
    return parser


def check(options: argparse.Namespace) -> bool:
    """Play and measure, print and store the result; false if a bar was missed."""
    shutil.rmtree(options.folder / "logs", ignore_errors=True)
    options.folder.mkdir(parents=True, exist_ok=True)
    meter = LoadMeter()
    result = soak(options.minutes, options.folder.absolute(), options.overrides, Terminal.on_stderr())
    missed = [name for name, bar in BARS.items() if result.get(name, 0.0) > bar]
    emit({**result, "bars": BARS, "missed": missed}, options.folder / "soak.json", meter.load())
    return not missed


main = option_job(command_line, check)


if __name__ == "__main__":
    sys.exit(main())
