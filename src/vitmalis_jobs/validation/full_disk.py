"""A run whose disk fills up while it plays: `python -m vitmalis_jobs.validation.full_disk FOLDER [OPTIONS ...]`.

The disk is a small one in memory, mounted in namespaces of this process (`unshare`), so nothing else sees it fill up.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vitmalis.errors import UserError
from vitmalis.records import FRAMES_FILE, read_frames
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.validation.prepared_run import evaluate_command, own_store

DISK_MB = 160
"""Size of the disk: enough to start a run."""
PLAYED_S = 3.0
"""How long a run has played when its disk is filled up."""
START_S, HANG_S = 1200.0, 300.0
"""Time in which a run starts to play, and in which it ends after its disk is full."""
CAUSES = ("No space left", "are free on its disk", "disk is full", "disk full")


def fill_disk(folder: Path, overrides: Sequence[str], terminal: Terminal) -> dict[str, Any]:
    """Make a run on a disk that fills up, and look at how it ends.

    Returns:
        exit_status, error: of the run, the error as its last line on standard error; status: in the store; frames:
        number of frames in its records; hangs, cause_missing, records_missing, not_failed: 0 or 1.

    Raises:
        UserError: this machine does not let users mount a disk of their own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    terminal.note(f"a run on a disk of {DISK_MB} MB that fills up while it plays")
    inside = [sys.executable, "-m", "vitmalis_jobs.validation.full_disk", str(folder), *overrides]
    command = ["unshare", "--user", "--map-root-user", "--mount", *inside]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise UserError("--target disk needs the command unshare (util-linux): leave this target out") from error
    if done.returncode or not done.stdout:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"--target disk: a disk in memory cannot be mounted here ({last}): leave this target out")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main(arguments: Sequence[str]) -> None:
    """Mount the disk, make the run on it, fill the disk up, and print how the run ended."""
    folder = Path(arguments[0])
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)], check=True)
    run = folder / "run"
    with tempfile.TemporaryFile() as errors:  # on another disk
        process = start_run(folder, run, arguments[1:], errors.fileno())
        playing = wait_until_playing(process, run)
        if playing:
            time.sleep(PLAYED_S)
            fill(folder / "filler")
        try:
            status: int | None = process.wait(HANG_S)
        except subprocess.TimeoutExpired:
            process.kill()
            status = None
        errors.seek(0)
        lines = errors.read().decode(errors="replace").strip().splitlines()
    (folder / "filler").unlink(missing_ok=True)
    print("\n".join(lines), file=sys.stderr)
    print(json.dumps(outcome(folder, run, status, lines[-1] if lines else "")))


def start_run(folder: Path, run: Path, overrides: Sequence[str], stderr: int) -> subprocess.Popen[bytes]:
    """Start a run whose folder and store are on the disk."""
    options = [f"hydra.run.dir={run}", "eval.seconds=10"]
    records_only = ["output.page=false", "output.figures=false", "output.video_seconds=0"]
    command = evaluate_command(folder, [*options, *records_only, *overrides])
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr, env=environment)


def wait_until_playing(process: subprocess.Popen[bytes], run: Path) -> bool:
    """Wait until the client writes its first records; false if the run ends before."""
    end_s = time.monotonic() + START_S
    while time.monotonic() < end_s and process.poll() is None:
        if any(run.rglob(".*.part")):
            return True
        time.sleep(0.1)
    return False


def fill(path: Path) -> None:
    """Write a file until its disk has no room left."""
    piece = bytes(2**16)
    with path.open("wb", buffering=0) as file:
        while len(piece) > 1:
            try:
                if file.write(piece) < len(piece):
                    raise OSError
            except OSError:
                piece = piece[: len(piece) // 2]


def outcome(folder: Path, run: Path, status: int | None, error: str) -> dict[str, Any]:
    """How the run ended, as its error line, its records and its store say."""
    store = own_store(folder)
    states = [each.info.status for each in store.client.search_runs([store.experiment_id])]
    try:
        frames = len(read_frames(run / FRAMES_FILE))
    except UserError:
        frames = 0
    return {
        "exit_status": status,
        "error": error,
        "status": states,
        "frames": frames,
        "hangs": int(status is None),
        "cause_missing": int(not any(cause in error for cause in CAUSES)),
        "records_missing": int(frames == 0),
        "not_failed": int(states != ["FAILED"]),
    }


if __name__ == "__main__":
    main(sys.argv[1:])
