"""What kills cost: `python -m validation.fault_injection`.

The processes of a real run (server, relay) and a real sweep are killed with SIGKILL at random moments, and counted is
what must not happen: a hang, an orphan, a lost or doubled run, an offload of which nobody knows what became of it.
One JSON object goes to standard output and to `runs/profiling`; `missed` names the bars that were not reached.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from vitmalis.records import STATUSES
from vitmalis_jobs.common.cli import USER_ERRORS, error_line
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.job_output import emit
from vitmalis_jobs.common.mlflow_store import Store
from vitmalis_jobs.run import processes
from vitmalis_jobs.run.config import composed
from vitmalis_jobs.run.directory import read_summaries
from vitmalis_jobs.run.spec import make_plan
from vitmalis_jobs.run.supervisor import SupervisedProcess

BARS = {
    "summaries_missing": 0,
    "left_running": 0,
    "hangs": 0,
    "orphans": 0,
    "lost_runs": 0,
    "doubled_runs": 0,
    "unexplained_offloads": 0,
    "frames_missing": 0,
}
TARGETS = ("server", "relay", "sweep")
SWEEP = (
    "-m", "clock=virtual", "video=market1906", "trace=4g,5g", "policy=back2back,trackb2b,trackud,trackroi",
    "latency=paper_testbed", "eval.seconds=2", "output.film_seconds=0",
)  # fmt: skip
SWEEP_RUNS = 8
HANG_S = 600.0
"""A process that has not ended by then hangs."""


def kill_in_run(target: str, kills: int, seed: int, folder: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Play a clip, again and again, while its server or relay is killed; then account for every frame and offload.

    Nothing is judged, so no references are needed: the clip plays to its end whatever becomes of the offloads. A client
    that reports nothing for a minute, or crashes, counts as a hang and ends it.
    """
    config = composed(overrides)
    plan = make_plan(config, Terminal.on_stderr())
    randomly, terminal, over = random.Random(seed), Terminal.on_stderr(), threading.Event()

    def kill(candidate: SupervisedProcess) -> None:
        while (done := len(candidate.deaths)) < kills and not over.wait(randomly.uniform(0.0, 8.0)):
            try:
                os.kill(candidate.pid, signal.SIGKILL)
            except ProcessLookupError:  # dead, and not started again yet
                continue
            while len(candidate.deaths) == done and not over.wait(0.02):
                pass
            terminal.step(done + 1, kills, f"kills of the {target}")

    with (
        processes.server(config, folder) as server,
        processes.relay(config.link, server.address, plan.trace, folder) as link,
    ):
        candidate = (server if target == "server" else link).process
        if candidate is None:
            raise RuntimeError(f"there is no {target} to kill: server.spawn and link=emulated are needed")
        killer = threading.Thread(target=kill, args=(candidate,))
        killer.start()
        played, hangs = list[processes.Played](), 0
        try:
            while len(candidate.deaths) < kills:  # a clip may be too short for all of them
                own = folder / str(len(played))
                own.mkdir(parents=True, exist_ok=True)
                played.append(processes.play(plan.session(link.address, "", own), 1, own, lambda *_: None))
        except RuntimeError as error:
            terminal.note(f"the client did not come through: {error}")
            hangs += 1
        finally:
            over.set()
            killer.join()
        deaths = len(candidate.deaths)
    offloads = [offload for each in played for offload in each.offloads]
    return {
        "kills": deaths,
        "plays": len(played),
        "hangs": hangs,
        "orphans": sum(each.is_running() for each in _ours()),
        "frames_missing": sum(plan.clip.frames - len({frame.frame_index for frame in each.frames}) for each in played),
        "offloads": dict(Counter(offload.status for offload in offloads)),
        "unexplained_offloads": sum(map(_unexplained, played)),
        "longest_without_result_s": round(max(map(_longest_gap_s, played), default=0.0), 1),
    }


def _ours() -> list[psutil.Process]:
    """Processes of the system that this one, or one of its children, has started and that still run."""
    return [each for each in psutil.Process().children(recursive=True) if "vitmalis." in " ".join(each.cmdline())]


def _unexplained(played: processes.Played) -> int:
    """Offloads that are missing in the records, or of which nobody knows what became."""
    numbers = {offload.offload_id for offload in played.offloads}
    missing = set(range(max(numbers, default=-1) + 1)) - numbers
    return len(missing) + sum(
        offload.status not in STATUSES or (offload.status != "ok" and not offload.reason) for offload in played.offloads
    )


def _longest_gap_s(played: processes.Played) -> float:
    """Longest time between two offloads that were answered."""
    answered = [each.start_time_s + (each.e2e_latency_s or 0.0) for each in played.offloads if each.status == "ok"]
    return max((later - sooner for sooner, later in itertools.pairwise(answered)), default=0.0)


def kill_sweep(kills: int, seed: int, folder: Path) -> dict[str, Any]:
    """Start a sweep again and again, kill each at random, let the last one end; then count runs and processes."""
    randomly, terminal, name, hangs = random.Random(seed), Terminal.on_stderr(), "faults", 0
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    store_options = [
        f"mlflow.tracking_uri=sqlite:///{folder}/mlflow.db", f"mlflow.artifact_dir={folder}/artifacts",
        f"sweep.index={folder}/finished", f"hydra.sweep.dir={folder}/{name}", f"sweep.name={name}",
    ]  # fmt: skip
    command = [sys.executable, "evaluate.py", *SWEEP, *store_options]
    families: list[psutil.Process] = []
    for done in range(1, kills + 1):
        process = _started(command, folder)
        try:
            process.wait(randomly.uniform(3.0, 25.0))
        except subprocess.TimeoutExpired:
            families += psutil.Process(process.pid).children(recursive=True)
            process.kill()
            process.wait()
        terminal.step(done, kills, "kills of a sweep")
    last = _started(command, folder)
    try:
        last.wait(HANG_S)
    except subprocess.TimeoutExpired:
        hangs += 1
        last.kill()
    time.sleep(1.0)
    store = Store(f"sqlite:///{folder}/mlflow.db", "evaluation", folder / "artifacts")
    runs = [run for run in store.client.search_runs([store.experiment_id]) if "mlflow.parentRunId" in run.data.tags]
    finished = [run.data.tags["identity"] for run in runs if run.info.status == "FINISHED"]
    summaries = read_summaries(folder / name)
    return {
        "kills": kills,
        "hangs": hangs,
        "orphans": sum(each.is_running() for each in families),
        "lost_runs": SWEEP_RUNS - len(set(finished)),
        "doubled_runs": len(finished) - len(set(finished)),
        "summaries_missing": SWEEP_RUNS - sum(summary["status"] == "FINISHED" for summary in summaries),
        "left_running": sum(run.info.status == "RUNNING" for run in runs),
        "ended_as": dict(Counter(run.info.status for run in runs)),
    }


def _started(command: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    with (folder / "said.txt").open("ab") as said:
        return subprocess.Popen(command, stdout=said, stderr=said, env={**os.environ, "OMP_NUM_THREADS": "1"})


def main(arguments: list[str] | None = None) -> int:
    """Kill as the command line says, print and store the result; 1 if a bar was missed, 2 for a user's mistake."""
    parser = argparse.ArgumentParser(prog="python -m validation.fault_injection", description=__doc__.splitlines()[0])
    parser.add_argument("--target", default=",".join(TARGETS), help="what to kill (default: %(default)s)")
    parser.add_argument("--kills", type=int, default=20, help="of each (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=60, help="of the clip that plays meanwhile")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("runs/faults"))
    parser.add_argument("overrides", nargs="*", help="options of evaluate.py for the run, such as policy=vitmalis")
    options = parser.parse_args(arguments)
    result: dict[str, Any] = {"seed": options.seed}
    try:
        for target in options.target.split(","):
            folder = (options.folder / target).absolute()
            if target == "sweep":
                result[target] = kill_sweep(options.kills, options.seed, folder)
            else:
                overrides = [f"eval.seconds={options.seconds}", *options.overrides]
                result[target] = kill_in_run(target, options.kills, options.seed, folder, overrides)
    except USER_ERRORS as error:
        print(f"error: {error_line(error)}", file=sys.stderr)
        return 2
    told = [key for key in result if key in TARGETS]
    missed = [f"{key}.{name}" for key in told for name, bar in BARS.items() if result[key].get(name, 0) > bar]
    emit({**result, "bars": BARS, "missed": missed}, options.folder / "faults.json")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
