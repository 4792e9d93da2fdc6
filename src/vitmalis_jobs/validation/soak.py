"""Half an hour in real time: does memory stay flat, does the pacing drift? `python -m validation.soak`.

A real client, relay and server play the clip over and over as one long video. Every few seconds the resident memory of
the three processes is noted; at the end the records say when each frame was captured. One JSON object goes to standard
output and to `runs/endurance`, with a figure; `missed` names the bars that were not reached.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil

from vitmalis.metrics import summarise
from vitmalis.paths import atomic_path
from vitmalis_jobs.common.cli import USER_ERRORS, error_line
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.job_output import emit
from vitmalis_jobs.common.plotting import canvas, colour, save_figure
from vitmalis_jobs.run import processes
from vitmalis_jobs.run.config import composed
from vitmalis_jobs.run.spec import make_plan

BARS = {"client_growth_mb": 50.0, "server_growth_mb": 50.0, "relay_growth_mb": 10.0, "drift_frames": 1.0}
"""At most so much; growth counts from a sixth of the time on, when buffers and caches are full."""
SAMPLE_S = 5.0
PROCESSES = ("client", "relay", "server")


def loop_clip(source: Path, target: Path, seconds: float) -> None:
    """Repeat a video's packets, without encoding them anew, until it is at least so long."""
    with atomic_path(target) as temporary, av.open(str(temporary), "w", format="mp4") as out:
        stream, offset = None, 0
        while True:
            with av.open(str(source)) as video:
                own = video.streams.video[0]
                stream = stream or out.add_stream_from_template(own)
                end = offset
                for packet in video.demux(own):
                    if packet.dts is None:  # the end
                        continue
                    packet.pts, packet.dts = (packet.pts or 0) + offset, packet.dts + offset
                    end = max(end, packet.pts + (packet.duration or 0))
                    packet.stream = stream
                    out.mux(packet)
                if own.time_base is None or end == offset or end * own.time_base >= seconds:
                    return
                offset = end


def watch(pids: Callable[[], dict[str, int]], over: threading.Event, rows: list[dict[str, float]]) -> None:
    """Note the memory of processes, MB by name, until it is over."""
    start_s = time.monotonic()
    while not over.wait(SAMPLE_S):
        row = {"time_s": round(time.monotonic() - start_s, 1)}
        for name, pid in pids().items():
            try:
                row[name] = psutil.Process(pid).memory_info().rss / 2**20
            except psutil.Error:  # it has just ended
                continue
        rows.append(row)


def growth_mb(rows: Sequence[dict[str, float]], name: str) -> float:
    """By how much a process is larger in the last sixth of the time than in the second, in medians."""
    values = [row[name] for row in rows if name in row]
    sixth = max(1, len(values) // 6)
    return float(np.median(values[-sixth:]) - np.median(values[sixth : 2 * sixth]))


def drift_frames(capture_times_s: Sequence[float], frame_indices: Sequence[int], fps: float) -> float:
    """How far the camera's pace has moved from its first tenth to its last, in frame intervals."""
    late = np.asarray(capture_times_s) - np.asarray(frame_indices) / fps
    tenth = max(1, len(late) // 10)
    return float(abs(np.median(late[-tenth:]) - np.median(late[:tenth])) * fps)


def endure(minutes: float, folder: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Play for so long and measure."""
    terminal = Terminal.on_stderr()
    short = make_plan(composed([*overrides, "eval.seconds=3600"]), terminal)
    clip = folder / "clip.mp4"
    loop_clip(Path(short.clip.path), clip, 60 * minutes + 5)
    plan = make_plan(
        composed([*overrides, "video=file", f"video.path={clip}", f"eval.seconds={60 * minutes}"]), terminal
    )
    config, rows, over = plan.config, list[dict[str, float]](), threading.Event()
    with (
        processes.server(config, folder) as server,
        processes.relay(config.link, server.address, plan.trace, folder) as link,
    ):
        known = {
            "server": server.process.pid if server.process else 0,
            "relay": link.process.pid if link.process else 0,
        }

        def pids() -> dict[str, int]:
            for child in psutil.Process().children():
                if "vitmalis.client" in child.cmdline():
                    known["client"] = child.pid
            return {name: pid for name, pid in known.items() if pid}

        watcher = threading.Thread(target=watch, args=(pids, over, rows))
        watcher.start()
        try:
            played = processes.play(
                plan.session(link.address, "", folder),
                config.client.threads,
                folder,
                lambda done, total, offloads, lost: terminal.step(
                    done, total, "frames", f"{offloads} offloads, {lost} lost"
                ),
            )
        finally:
            over.set()
            watcher.join()
    _keep(rows, folder)
    return {
        "minutes": minutes,
        **played_result(played, plan.clip.fps),
        **memory_result(rows),
        "log_bytes": sum(path.stat().st_size for path in (folder / "logs").glob("*.log")),
    }


def played_result(played: processes.Played, fps: float) -> dict[str, Any]:
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


def memory_result(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Growth and peak of the resident memory of each process, MB; no growth of a process without samples."""
    sampled = [name for name in PROCESSES if any(name in row for row in rows)]
    growth = {f"{name}_growth_mb": round(growth_mb(rows, name), 1) for name in sampled}
    peaks = {f"{name}_mb": round(max(row.get(name, 0.0) for row in rows), 1) for name in PROCESSES}
    return growth | peaks


def _keep(rows: Sequence[dict[str, float]], folder: Path) -> None:
    """The samples as a table and as a figure."""
    with (folder / "memory.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["time_s", *PROCESSES])
        writer.writeheader()
        writer.writerows(rows)
    figure, (ax,) = canvas("resident memory")
    for position, name in enumerate(PROCESSES):
        own = [(row["time_s"] / 60, row[name]) for row in rows if name in row]
        if own:
            ax.plot(*zip(*own, strict=True), color=colour(position), label=name)
    ax.set(xlabel="minutes", ylabel="MB", ylim=(0, None))
    ax.legend()
    save_figure(figure, folder / "memory.png")
    Terminal.on_stderr().note(f"plot: {folder / 'memory.png'}")


def main(arguments: list[str] | None = None) -> int:
    """Play as the command line says; 1 if a bar was missed, 2 for a user's mistake."""
    parser = argparse.ArgumentParser(prog="python -m validation.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--folder", type=Path, default=Path("runs/endurance"))
    parser.add_argument("overrides", nargs="*", help="options of evaluate.py, such as policy=vitmalis")
    options = parser.parse_args(arguments)
    shutil.rmtree(options.folder / "logs", ignore_errors=True)
    options.folder.mkdir(parents=True, exist_ok=True)
    try:
        result = endure(options.minutes, options.folder.absolute(), options.overrides)
    except USER_ERRORS as error:
        print(f"error: {error_line(error)}", file=sys.stderr)
        return 2
    missed = [name for name, bar in BARS.items() if result.get(name, 0.0) > bar]
    emit({**result, "bars": BARS, "missed": missed}, options.folder / "endurance.json")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
