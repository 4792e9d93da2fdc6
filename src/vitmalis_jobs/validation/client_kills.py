"""Clients that are killed while they play, and the records that they leave."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from vitmalis.errors import UserError
from vitmalis.records import FRAMES_FILE, has_records, read_info
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.run import processes
from vitmalis_jobs.run.records import RunRecords, read_records
from vitmalis_jobs.run.spec import PreparedRun
from vitmalis_jobs.validation.accounting import played_result
from vitmalis_jobs.validation.prepared_run import prepared_run

LATEST_KILL_S = 10.0
"""A client is killed within this time of its first frame."""


def kill_clients(kills: int, seed: int, folder: Path, overrides: Sequence[str], terminal: Terminal) -> dict[str, Any]:
    """Play a clip so many times, each time until its client is killed; then account for records and processes.

    Raises:
        UserError: the run cannot be made.
    """
    prepared, draws = prepared_run(overrides, terminal), random.Random(seed)
    left, lost_s = list[RunRecords](), list[float]()
    with (
        processes.server(prepared.config, folder) as server,
        processes.relay(prepared.config.link, server.address, prepared.spec.trace, folder) as link,
    ):
        for number in range(kills):
            own = folder / str(number)
            reached = _killed_play(prepared, link.address, own, draws.uniform(0.0, LATEST_KILL_S))
            terminal.step(number + 1, kills, "kills of the client")
            left.append(_left_records(own))
            lost_s.append((reached - len(left[-1].frames)) / prepared.clip.fps)
    accounts = played_result(left, prepared.clip.frames)
    del accounts["frames_missing"]  # those after the kill are
    return {"kills": kills, "longest_lost_s": round(max(lost_s, default=0.0), 2), **accounts}


def _left_records(folder: Path) -> RunRecords:
    """The records in a folder, none of a client that was killed before it saved any; they say that the run failed."""
    if not has_records(folder / FRAMES_FILE):
        return RunRecords([], [])
    if (ended := read_info(folder / FRAMES_FILE).ended) != "failed":
        raise AssertionError(f"{folder}: records of a killed client say that it was {ended}")
    return read_records(folder)


def _killed_play(prepared: PreparedRun, address: str, folder: Path, after_s: float) -> int:
    """Play until the client is killed, so long after its first frame; returns how many frames it had rendered."""
    folder.mkdir(parents=True, exist_ok=True)
    reached, first_s = 0, 0.0

    def progress(done: int, *_: int) -> None:
        nonlocal reached, first_s
        reached, first_s = done, first_s or time.monotonic()
        if time.monotonic() - first_s >= after_s:
            for child in psutil.Process().children():
                if "vitmalis.client" in child.cmdline():
                    child.kill()

    try:
        processes.play(prepared.session(address, folder), 1, folder, progress)
    except processes.ClientFailed:
        return reached
    raise UserError("--target client: the clip ended before its client was killed; play more (--seconds)")
