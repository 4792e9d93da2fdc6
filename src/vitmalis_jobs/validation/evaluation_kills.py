"""Evaluations that are killed outright, single runs and sweeps, and the processes and runs that they leave."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.machine_load import BUSY
from vitmalis_jobs.common.mlflow_tags import PARENT
from vitmalis_jobs.run.directory import read_summaries
from vitmalis_jobs.validation.prepared_run import evaluate_command, own_store

if TYPE_CHECKING:
    from mlflow.entities import Run

HANG_S = 600.0
"""A command that has not ended after so long hangs."""
ORPHAN_S = 30.0
"""A process that still runs so long after its command was killed is an orphan."""
MARK = "VITMALIS_FAULT_INJECTION"
"""Environment variable that all processes of a command inherit; its value is the folder."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command of `evaluate.py` that is killed again and again.

    Attributes:
        options: those on its command line.
        runs: number of runs that it makes.
        latest_kill_s: it is killed within this time of its start.
        sweep: whether it is a sweep, which reuses the runs that have finished.
    """

    options: tuple[str, ...]
    runs: int
    latest_kill_s: float
    sweep: bool = True


COMMANDS = {
    "evaluation": Command(("video=market1906", "trace=4g", "eval.seconds=5"), 1, 40.0, sweep=False),
    "realtime_sweep": Command(
        ("-m", "video=market1906", "trace=4g", "policy=back2back,trackb2b,trackroi", "eval.seconds=4"), 3, 60.0
    ),
    "sweep": Command(
        ("-m", "clock=virtual", "video=market1906", "trace=4g,5g", "policy=back2back,trackb2b,trackud,trackroi",
         "latency=paper_testbed", "eval.seconds=2", "output.page=false", "output.video_seconds=0"), 8, 25.0,
    ),
}  # fmt: skip
"""The commands to kill, by the name of their target."""


def kill_evaluations(
    command: Command, kills: int, seed: int, folder: Path, overrides: Sequence[str], terminal: Terminal
) -> dict[str, Any]:
    """Start a command so many times and kill it at random, let a last one end; then count its runs and processes.

    After each kill the store is opened, which must leave no run as RUNNING, and the processes that the command has
    started must end by themselves.

    Returns:
        kills: number of commands that were killed, as some may end before; hangs, failed_commands, orphans,
        left_running, lost_runs, doubled_runs, summaries_missing; ended_as: number of MLflow runs by their status.
    """
    draws, count = random.Random(seed), Counter[str](kills=0, hangs=0, failed_commands=0)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for number in range(kills):
        count.update(_play(command, folder, overrides, draws.uniform(0.0, command.latest_kill_s), "kills"))
        count.update(_left(folder))
        terminal.step(number + 1, kills, "kills of an evaluation")
    count.update(_play(command, folder, overrides, HANG_S, "hangs"))
    count.update(_left(folder))
    runs = _stored_runs(folder)
    account = _runs_of_sweep(command, runs, folder) if command.sweep else _runs_of_commands(kills + 1, count, runs)
    return {**count, **account, "ended_as": dict(Counter(run.info.status for run in runs))}


def _play(command: Command, folder: Path, overrides: Sequence[str], limit_s: float, killed_as: str) -> dict[str, int]:
    """Start the command and kill it after `limit_s`; count it as `killed_as`, or as failed if it ended so before."""
    at = f"hydra.sweep.dir={_results(folder)}" if command.sweep else f"hydra.run.dir={_results(folder)}"
    line = evaluate_command(folder, [*command.options, at, *overrides])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", MARK: str(folder)}
    with (folder / "output.txt").open("ab") as output:
        process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment)
    try:
        return {"failed_commands": int(process.wait(limit_s) != 0)}
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return {killed_as: 1}


def _results(folder: Path) -> Path:
    """Folder of the run or the sweep."""
    return folder / "results"


def _left(folder: Path) -> dict[str, int]:
    """Count what a command that has ended must not leave: processes, and runs that the store says are RUNNING."""
    _, orphans = psutil.wait_procs(_processes(folder), ORPHAN_S)
    for orphan in orphans:
        orphan.kill()
    running = sum(run.info.status == "RUNNING" for run in _stored_runs(folder))
    return {"orphans": len(orphans), "left_running": running}


def _processes(folder: Path) -> list[psutil.Process]:
    """The processes that carry the mark of the folder: children whose parents are gone, too."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # another user's, or ended meanwhile
            if process.environ().get(MARK) == str(folder):
                found.append(process)
    return found


def _stored_runs(folder: Path) -> list[Run]:
    """All runs in the store, after opening it, which ends those whose process is gone."""
    store = own_store(folder)
    return list(store.client.search_runs([store.experiment_id]))


def _runs_of_sweep(command: Command, runs: Sequence[Run], folder: Path) -> dict[str, int]:
    """Account for the runs of a sweep, each of which must finish once; again only if the machine was busy."""
    finished = [run for run in runs if PARENT in run.data.tags and run.info.status == "FINISHED"]
    reusable = [run.data.tags["fingerprint"] for run in finished if BUSY not in run.data.tags]
    summaries = read_summaries(_results(folder))
    return {
        "lost_runs": command.runs - len({run.data.tags["fingerprint"] for run in finished}),
        "doubled_runs": len(reusable) - len(set(reusable)),
        "summaries_missing": command.runs - sum(summary["status"] == "FINISHED" for summary in summaries),
    }


def _runs_of_commands(commands: int, count: Counter[str], runs: Sequence[Run]) -> dict[str, int]:
    """Account for the runs of so many commands: at most one each, and FINISHED for those that were not killed."""
    ended = commands - count["kills"] - count["hangs"] - count["failed_commands"]
    finished = sum(run.info.status == "FINISHED" for run in runs)
    return {"lost_runs": max(0, ended - finished), "doubled_runs": max(0, len(runs) - commands)}
