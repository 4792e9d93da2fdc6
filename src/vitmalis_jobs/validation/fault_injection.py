"""Fault injection: `python -m validation.fault_injection` disturbs real runs and accounts for what becomes of them.

Server, relay and client of a run are killed with SIGKILL at random moments, and so are a server that was started by
hand and its supervisor (`serve`), and whole evaluations, single runs and sweeps; the link of a run is silent for 30 s;
the disk of a run fills up while it plays. Counted is what must not happen: a hang, an orphaned process, a lost or
doubled run, an offload without a known outcome, records of a killed client that end more than 2 s before it, an error
that hides its cause. One JSON object goes to standard output and to `runs/fault_injection`; `missed` names the bars
that were not reached.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vitmalis.command_line import CommandLine
from vitmalis.errors import UserError
from vitmalis_jobs.common.arguments import add_overrides
from vitmalis_jobs.common.background import in_background
from vitmalis_jobs.common.cli import job_parser, option_job
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.job_output import emit
from vitmalis_jobs.run import processes
from vitmalis_jobs.run.records import RunRecords
from vitmalis_jobs.run.supervisor import SupervisedProcess
from vitmalis_jobs.validation.accounting import play, played_result
from vitmalis_jobs.validation.client_kills import kill_clients
from vitmalis_jobs.validation.evaluation_kills import COMMANDS, kill_evaluations
from vitmalis_jobs.validation.full_disk import fill_disk
from vitmalis_jobs.validation.outage import play_outage
from vitmalis_jobs.validation.prepared_run import prepared_run
from vitmalis_jobs.validation.serve_kills import kill_served

BARS = {
    "summaries_missing": 0,
    "left_running": 0,
    "hangs": 0,
    "failed_commands": 0,
    "not_restarted": 0,
    "orphans": 0,
    "lost_runs": 0,
    "doubled_runs": 0,
    "unexplained_offloads": 0,
    "frames_missing": 0,
    "resumed_after_s": 15.0,
    "cause_missing": 0,
    "not_failed": 0,
    "records_missing": 0,
    "longest_lost_s": 2.0,
}
"""Most that each of these results may be."""
TARGETS = ("server", "relay", "client", "serve", *COMMANDS, "outage", "disk")


def kill_in_run(
    target: str, kills: int, seed: int, folder: Path, overrides: Sequence[str], terminal: Terminal
) -> dict[str, Any]:
    """Play a clip, again and again, while its server or relay is killed; then account for every frame and offload.

    Nothing is scored, so no references are needed: the clip plays to its end whatever becomes of the offloads. A client
    that reports nothing for a minute, or crashes, counts as a hang and ends the job.

    Raises:
        UserError: the run cannot be made, or has no such process.
    """
    prepared = prepared_run(overrides, terminal)
    config = prepared.config
    played, hangs = list[RunRecords](), 0

    def progress(done: int) -> None:
        terminal.step(done, kills, f"kills of the {target}")

    with (
        processes.server(config, folder) as server,
        processes.relay(config.link, server.address, prepared.spec.trace, folder) as link,
    ):
        target_process = (server if target == "server" else link).process
        if target_process is None:
            raise UserError(f"there is no {target} to kill: server.spawn and link=emulated are needed")
        with killed_at_random(target_process, kills, random.Random(seed), progress):
            try:
                while len(target_process.exits) < kills and not target_process.gave_up_reason:
                    played.append(play(prepared, link.address, folder / str(len(played))))
            except processes.ClientFailed as error:
                terminal.note(f"the client did not reach the end of the clip: {error}")
                hangs += 1
        killed = len(target_process.exits)
        not_restarted = int(bool(target_process.gave_up_reason))
    counts = {"kills": killed, "plays": len(played), "hangs": hangs, "not_restarted": not_restarted}
    return {**counts, **played_result(played, prepared.clip.frames)}


@contextmanager
def killed_at_random(
    process: SupervisedProcess, kills: int, draws: random.Random, progress: Callable[[int], None]
) -> Iterator[None]:
    """Kill a supervised process up to `kills` times inside the block, within 8 s of each time that it is ready.

    Not while it starts: three failed starts in a row end the supervision, as they should.
    """

    def kill(ended: threading.Event) -> None:
        while (done := len(process.exits)) < kills:
            while not process.ready:
                if ended.wait(0.02):
                    return
            if ended.wait(draws.uniform(0.0, 8.0)):
                return
            with suppress(ProcessLookupError):  # it has ended by itself meanwhile
                os.kill(process.pid, signal.SIGKILL)
            while len(process.exits) == done and not ended.wait(0.02):
                pass
            progress(done + 1)

    with in_background(kill, "killer"):
        yield


def command_line() -> CommandLine:
    """The options of this job."""
    parser = job_parser(
        "validation.fault_injection",
        "Kill processes of runs, silence their link and fill their disk, and account for what becomes of the runs.",
        {
            "--target server,client --kills 3": "a few minutes",
            "": "everything, hours",
        },
        "Exit status 1: a run was lost, doubled or left without a summary, or a process hung or was orphaned.",
    )
    parser.add_argument("--target", default=",".join(TARGETS), help="what to disturb, with commas between")
    parser.add_argument("--kills", type=int, default=20, help="number of kills of each target that is killed")
    parser.add_argument("--seconds", type=int, default=60, help="seconds of the clip that plays meanwhile")
    parser.add_argument("--seed", type=int, default=1, help="seed of the moments of kills")
    parser.add_argument("--folder", type=Path, default=Path("runs/fault_injection"), help="folder of runs and result")
    add_overrides(parser)
    return parser


def disturb(target: str, options: argparse.Namespace, folder: Path, terminal: Terminal) -> dict[str, Any]:
    """Disturb one target in the folder; returns what became of it."""
    if target in COMMANDS:
        return kill_evaluations(COMMANDS[target], options.kills, options.seed, folder, options.overrides, terminal)
    if target == "serve":
        return kill_served(options.kills, options.seed, folder, terminal)
    if target == "outage":
        return play_outage(folder, options.overrides, terminal)
    if target == "disk":
        return fill_disk(folder, options.overrides, terminal)
    overrides = [f"eval.seconds={options.seconds}", *options.overrides]
    if target == "client":
        return kill_clients(options.kills, options.seed, folder, overrides, terminal)
    return kill_in_run(target, options.kills, options.seed, folder, overrides, terminal)


def check(options: argparse.Namespace) -> bool:
    """Disturb the targets, print and store the results; false if a bar was missed."""
    targets = options.target.split(",")
    if unknown := [target for target in targets if target not in TARGETS]:
        raise UserError(f"--target {unknown[0]} is unknown: choose among {', '.join(TARGETS)}")
    terminal, results = Terminal.on_stderr(), dict[str, dict[str, Any]]()
    for target in targets:
        results[target] = disturb(target, options, (options.folder / target).absolute(), terminal)
    missed = [f"{key}.{name}" for key in results for name, bar in BARS.items() if results[key].get(name, 0) > bar]
    emit({"seed": options.seed, **results, "bars": BARS, "missed": missed}, options.folder / "fault_injection.json")
    return not missed


main = option_job(command_line, check)


if __name__ == "__main__":
    sys.exit(main())
