"""What a long run on the virtual clock costs once its caches are full: `python -m validation.virtual_speed`.

The clip is played over and over as one long video at 30 FPS, as a run of a study is (records, no pictures). A first run
fills the caches; then the whole of `evaluate.py` is run again, from its start to its end, and its processor time taken;
a last run under Python's profiler says where it goes. One JSON object goes to standard output and to `runs/profiling`;
`missed` names the bar if it was not reached.
"""

from __future__ import annotations

import argparse
import pstats
import resource
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2

from vitmalis.errors import UserError
from vitmalis.references import ReferenceDetector, compute_references
from vitmalis.types import Detections, RgbImage
from vitmalis_jobs.common.arguments import check_positive
from vitmalis_jobs.common.cli import USER_ERRORS, error_line
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.detectors import loaded_detector
from vitmalis_jobs.common.job_output import emit
from vitmalis_jobs.run.config import composed
from vitmalis_jobs.run.spec import make_plan
from vitmalis_jobs.validation.looped_clip import loop_clip

BARS = {"cpu_s": 90.0}
"""At most so much, for `BAR_SECONDS` at 30 FPS; other lengths have none, as every process costs its start."""
BAR_SECONDS = 300.0
FPS = 30.0

PARTS = {
    "decoding the clip": ("spec.py", "_open_file"),
    "the tracker's copies": ("optical_flow.py", "prepare"),
    "the tracker's steps": ("workers.py", "run_tracking"),
    "motion analysis": ("motion.py", "analyse"),
    "decisions": ("machine.py", "_offload_newest"),
    "answers from the cache": ("server.py", "answer"),
    "writing records": ("records.py", "write_run"),
    "judging": ("summary.py", "summarise"),
    "tables of the testbed": ("testbed.py", "paper_testbed"),
    "importing": ("<frozen importlib._bootstrap>", "_find_and_load"),
}
"""Where time goes: what it is called, and the function (end of its file, name) in which it is spent. None calls another
of them; what is left is Hydra, MLflow, the event queue and the state machine."""
OTHER = "everything else"


class Remembering:
    """Detects each distinct picture once, as a clip that is played over and over shows few of them."""

    def __init__(self, detector: ReferenceDetector) -> None:
        self._detector = detector
        self._known: dict[bytes, Detections] = {}

    @property
    def model_id(self) -> str:
        """Of the detector."""
        return self._detector.model_id

    def detect(self, image: RgbImage) -> Detections:
        """Boxes of a picture, remembered by all of its bytes."""
        key = image.tobytes()
        if key not in self._known:
            self._known[key] = self._detector.detect(image)
        return self._known[key]


def run_cpu_s(options: Sequence[str], profile: Path | None = None) -> float:
    """Processor seconds of one `evaluate.py`, user and system, of all its threads and children.

    Raises:
        UserError: it failed; with its last words.
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
    """Share of the profiled time inside each of `PARTS`, and of what is left."""
    stats: Any = pstats.Stats(str(profile))
    found = dict.fromkeys(PARTS, 0.0)
    for (file, _, function), (_, _, _, cumulative_s, _) in stats.stats.items():
        for name, (ending, wanted) in PARTS.items():
            if file.endswith(ending) and function == wanted:
                found[name] = max(found[name], cumulative_s)
    found[OTHER] = stats.total_tt - sum(found.values())
    return {name: round(seconds / stats.total_tt, 3) for name, seconds in found.items()}


def measure(seconds: float, repeats: int, folder: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Fill the caches, then measure."""
    terminal = Terminal.on_stderr()
    asked = ["clock=virtual", "output.pictures=false", "output.film_seconds=0", *overrides]
    short = make_plan(composed([*asked, "eval.seconds=3600"]), terminal)
    clip = folder / "clip.mp4"
    loop_clip(Path(short.clip.path), clip, FPS * seconds / short.clip.fps + 1)
    asked += ["video=file", f"video.path={clip}", f"video.fps={FPS:g}", f"eval.seconds={seconds:g}"]
    plan = make_plan(composed(asked), terminal)
    cv2.setNumThreads(1)
    compute_references(
        plan.clip,
        Remembering(loaded_detector(plan.config.model)),
        lambda done, total: terminal.step(done, total, "references"),
    )
    measured = []
    for number, what in enumerate(["filling the caches", *["measuring"] * repeats]):
        terminal.step(number, repeats + 2, f"run {number + 1}", what)
        measured.append(run_cpu_s(asked))
    profile = folder / "evaluate.prof"
    terminal.step(repeats + 1, repeats + 2, f"run {repeats + 2}", "under the profiler")
    run_cpu_s(asked, profile)
    terminal.step(repeats + 2, repeats + 2, f"run {repeats + 2}", "done")
    return {
        "policy": plan.config.policy_name,
        "latency": plan.config.latency.name,
        "frames": plan.clip.frames,
        "width_px": plan.clip.width,
        "height_px": plan.clip.height,
        "cpu_s": round(statistics.median(measured[1:]), 1),
        "cpu_s_runs": [round(value, 1) for value in measured[1:]],
        "cpu_s_with_empty_caches": round(measured[0], 1),
        "shares": shares(profile),
    }


def main(arguments: list[str] | None = None) -> int:
    """Measure as the command line says; 1 if the bar was missed, 2 for a user's mistake."""
    parser = argparse.ArgumentParser(prog="python -m validation.virtual_speed", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=300.0, help="of video at 30 FPS (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="measured runs (default: %(default)s)")
    parser.add_argument("--folder", type=Path, default=Path("runs/profiling/virtual_speed"))
    parser.add_argument("overrides", nargs="*", help="options of evaluate.py, such as policy=vitmalis")
    options = parser.parse_args(arguments)
    try:
        check_positive(options, "seconds", "repeats")
        options.folder.mkdir(parents=True, exist_ok=True)
        result = measure(options.seconds, options.repeats, options.folder.absolute(), options.overrides)
    except USER_ERRORS as error:
        print(f"error: {error_line(error)}", file=sys.stderr)
        return 2
    Terminal.on_stderr().table(
        "where the processor time goes",
        [{"part": part, "share": share} for part, share in result["shares"].items()],
        ("part", "share"),
    )
    bars = BARS if options.seconds == BAR_SECONDS else {}
    missed = [name for name, bar in bars.items() if result[name] > bar]
    emit({**result, "bars": bars, "missed": missed}, Path("runs/profiling/virtual_speed.json"))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
