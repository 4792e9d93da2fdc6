"""Processor time of a long run on the virtual clock once its caches are full: `python -m validation.virtual_speed`.

The clip is played over and over as one long video at 30 FPS, as a run of a study is (records, no images). A first run
fills the caches; then the whole of `evaluate.py` is run again, from start to end, and its processor time measured; a
last run under Python's profiler shows where the time goes. One JSON object goes to standard output and to
`runs/profiling`; `missed` names the bar if it was not reached.
"""

from __future__ import annotations

import argparse
import importlib._bootstrap
import inspect
import pstats
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2

from vitmalis.client.machine import ClientMachine
from vitmalis.client.workers import run_tracking
from vitmalis.command_line import CommandLine
from vitmalis.errors import UserError
from vitmalis.metrics import summarise
from vitmalis.records import write_run
from vitmalis.references import ReferenceDetector, compute_references
from vitmalis.regions import MotionAnalyzer
from vitmalis.tracker import LucasKanadeTracker
from vitmalis.types import Detections, RgbImage
from vitmalis.video import spec as video_spec
from vitmalis.virtual.server import VirtualServer
from vitmalis.virtual.testbed import paper_testbed
from vitmalis_jobs.common.arguments import add_overrides, check_positive
from vitmalis_jobs.common.cli import job_parser, option_job
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.detectors import boxes_cache
from vitmalis_jobs.common.job_output import emit
from vitmalis_jobs.common.machine_load import LoadMeter
from vitmalis_jobs.run.resources import Resources
from vitmalis_jobs.run.spec import PreparedRun
from vitmalis_jobs.validation.looped_clip import loop_clip
from vitmalis_jobs.validation.prepared_run import prepared_run

BARS = {"cpu_s": 90.0}
"""Upper limit for `BAR_SECONDS` at 30 FPS; other lengths have none, as every process has the cost of its start."""
BAR_SECONDS = 300.0
FPS = 30.0

PARTS: dict[str, Callable[..., object]] = {
    "decoding the clip": video_spec._open_file,
    "the tracker's copies": LucasKanadeTracker.prepare,
    "the tracker's steps": run_tracking,
    "motion analysis": MotionAnalyzer.analyse,
    "decisions": ClientMachine._offload_newest,
    "answers from the cache": VirtualServer.answer,
    "writing records": write_run,
    "scoring": summarise,
    "tables of the testbed": paper_testbed,
    "importing": importlib._bootstrap._find_and_load,  # type: ignore[attr-defined]
}
"""Parts of a run and the functions in which their time is spent. None calls another of them; what is left is Hydra,
MLflow, the event queue and the state machine."""
OTHER = "everything else"


class CachedDetector:
    """Detector that runs once for each distinct image, as a clip that is played over and over has few of them."""

    def __init__(self, detector: ReferenceDetector) -> None:
        self._detector = detector
        self._known: dict[bytes, Detections] = {}

    @property
    def model_id(self) -> str:
        """Id of the detector's model."""
        return self._detector.model_id

    def detect(self, image: RgbImage) -> Detections:
        """Detect objects in an image, or return what was found in an equal one."""
        key = image.tobytes()
        if key not in self._known:
            self._known[key] = self._detector.detect(image)
        return self._known[key]


def run_cpu_s(options: Sequence[str], profile: Path | None = None) -> float:
    """Processor seconds of one `evaluate.py`, user and system, of all its threads and children.

    Args:
        options: of `evaluate.py`.
        profile: file for the statistics of Python's profiler, under which it is then run.

    Raises:
        UserError: it failed; the message ends with the last line of its standard error.
    """
    profiled = [] if profile is None else ["-m", "cProfile", "-o", str(profile)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, *profiled, "-m", "vitmalis_jobs.evaluation", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise UserError(f"{' '.join(command)} failed: {(done.stderr.strip().splitlines() or ['it said nothing'])[-1]}")
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def shares(profile: Path) -> dict[str, float]:
    """Share of the profiled time in each of `PARTS`, and in everything else."""
    stats: Any = pstats.Stats(str(profile))
    parts = {_profile_key(function): name for name, function in PARTS.items()}
    found = dict.fromkeys(PARTS, 0.0)
    for key, (_, _, _, cumulative_s, _) in stats.stats.items():
        if key in parts:
            found[parts[key]] = cumulative_s
    found[OTHER] = stats.total_tt - sum(found.values())
    return {name: round(seconds / stats.total_tt, 3) for name, seconds in found.items()}


def _profile_key(function: Callable[..., object]) -> tuple[str, int, str]:
    """How Python's profiler names a function: file, first line, name."""
    code = inspect.unwrap(function).__code__
    return code.co_filename, code.co_firstlineno, code.co_name


def measure(seconds: float, repeats: int, folder: Path, overrides: Sequence[str], terminal: Terminal) -> dict[str, Any]:
    """Fill the caches, then measure.

    Raises:
        UserError: the run that the overrides describe cannot be made, or failed.
    """
    prepared, options = long_run(seconds, folder, overrides, terminal)
    measured_s = []
    for number, task in enumerate(["filling the caches", *["measuring"] * repeats]):
        terminal.step(number, repeats + 2, f"run {number + 1}", task)
        measured_s.append(run_cpu_s(options))
    profile = folder / "evaluate.prof"
    terminal.step(repeats + 1, repeats + 2, f"run {repeats + 2}", "under the profiler")
    run_cpu_s(options, profile)
    terminal.step(repeats + 2, repeats + 2, f"run {repeats + 2}", "done")
    return {
        "policy": prepared.config.policy_name,
        "latency": prepared.config.latency.name,
        "frames": prepared.clip.frames,
        "width_px": prepared.clip.width,
        "height_px": prepared.clip.height,
        "cpu_s": round(statistics.median(measured_s[1:]), 1),
        "cpu_s_runs": [round(value, 1) for value in measured_s[1:]],
        "cpu_s_with_empty_caches": round(measured_s[0], 1),
        "shares": shares(profile),
    }


def long_run(
    seconds: float, folder: Path, overrides: Sequence[str], terminal: Terminal
) -> tuple[PreparedRun, list[str]]:
    """Make the long video and its references; returns the run and the options of `evaluate.py` that make it."""
    options = ["clock=virtual", "output.page=false", "output.figures=false", "output.video_seconds=0", *overrides]
    short = prepared_run([*options, "eval.seconds=3600"], terminal)
    clip = folder / "clip.mp4"
    loop_clip(Path(short.clip.path), clip, FPS * seconds / short.clip.fps + 1)
    options += ["video=file", f"video.path={clip}", f"video.fps={FPS:g}", f"eval.seconds={seconds:g}"]
    prepared = prepared_run(options, terminal)
    cv2.setNumThreads(1)
    detector = CachedDetector(Resources().detector(prepared.config.model))
    cache = boxes_cache(prepared.config.model)
    compute_references(prepared.clip, detector, lambda done, total: terminal.step(done, total, "references"), cache)
    return prepared, options


def command_line() -> CommandLine:
    """The options of this job."""
    parser = job_parser(
        "validation.virtual_speed",
        "Measure the processor time of a long run on the virtual clock once its caches are full.",
        {
            "": "five minutes of video under the default policy",
            "--seconds 30 --repeats 1 policy=vitmalis": "a quick look at another policy",
        },
        f"Bar for {BAR_SECONDS:g} s: {BARS}. Exit status 1: it was missed.",
    )
    parser.add_argument("--seconds", type=float, default=300.0, help="length of the clip in seconds, at 30 FPS")
    parser.add_argument("--repeats", type=int, default=3, help="measured runs, of which the median is reported")
    parser.add_argument(
        "--folder", type=Path, default=Path("runs/profiling/virtual_speed"), help="folder of the runs and the clip"
    )
    add_overrides(parser)
    return parser


def check(options: argparse.Namespace) -> bool:
    """Measure, print and store the result; false if the bar was missed."""
    check_positive(options, "seconds", "repeats")
    options.folder.mkdir(parents=True, exist_ok=True)
    terminal, meter = Terminal.on_stderr(), LoadMeter()
    result = measure(options.seconds, options.repeats, options.folder.absolute(), options.overrides, terminal)
    parts = [{"part": part, "share": share} for part, share in result["shares"].items()]
    terminal.table("where the processor time goes", parts, ("part", "share"))
    bars = BARS if options.seconds == BAR_SECONDS else {}
    missed = [name for name, bar in bars.items() if result[name] > bar]
    emit({**result, "bars": bars, "missed": missed}, Path("runs/profiling/virtual_speed.json"), meter.load())
    return not missed


main = option_job(command_line, check)


if __name__ == "__main__":
    sys.exit(main())
