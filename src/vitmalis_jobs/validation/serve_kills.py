"""A server that was started by hand (`vitmalis serve`), and whose serving process or supervisor is killed."""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

from vitmalis.process import Child
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.validation.fuzz import honest_client_s, served_geometry

HANG_S = 180.0
"""A client that waits longer for detections waits in vain: a start takes half a minute on a busy machine."""
LATEST_KILL_S = 4.0
"""A process is killed within this time of the last answer."""
ORPHAN_S = 30.0
"""A serving process that runs so long after its supervisor was killed is an orphan."""


def kill_served(kills: int, seed: int, folder: Path, terminal: Terminal) -> dict[str, Any]:
    """Kill the serving process or its supervisor so many times, and let a client wait for detections after each kill.

    The supervisor starts the serving process again; a killed supervisor is started again here, at its address.

    Returns:
        kills, supervisor_kills: number of kills, and of those that hit the supervisor; orphans; hangs: number of times
        that no detections came in time; longest_until_served_s: from a kill to detections.
    """
    shutil.rmtree(folder, ignore_errors=True)
    draws, count, waits_s = random.Random(seed), Counter[str](hangs=0, orphans=0, supervisor_kills=0), [0.0]
    supervisor = _start("tcp://127.0.0.1:0", folder)
    try:
        address = str(supervisor.wait_ready()["ready"])
        geometry = served_geometry(address)
        for number in range(kills):
            time.sleep(draws.uniform(0.0, LATEST_KILL_S))
            (serving,) = psutil.Process(supervisor.pid).children()
            if draws.random() < 0.5:
                count["supervisor_kills"] += 1
                supervisor.kill()
                count["orphans"] += len(psutil.wait_procs([serving], ORPHAN_S)[1])
                supervisor = _start(address, folder)
            else:
                serving.kill()
            waits_s.append(honest_client_s(address, geometry, HANG_S))
            terminal.step(number + 1, kills, "kills of a server that was started by hand")
        count["hangs"] = waits_s.count(float("inf"))
    finally:
        supervisor.stop()
    return {"kills": kills, **count, "longest_until_served_s": round(max(waits_s), 1)}


def _start(address: str, folder: Path) -> Child:
    return Child("server", "vitmalis.server", [f"--address={address}"], folder / "server.log", {"OMP_NUM_THREADS": "1"})
