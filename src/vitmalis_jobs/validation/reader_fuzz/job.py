"""Fuzzing of every function that reads bytes from outside: `python -m validation.reader_fuzz`.

Each reader (messages, JPEGs, traces, records, pickles of weights) gets mutated inputs for some seconds in a process of
its own. A fault is any exception but the refusal that its callers expect, more than 4 GiB of memory, or a process that
dies or hangs. With atheris (pip install 'vitmalis[fuzz]') inputs are guided by coverage; without it seeds are mutated
blindly. The result is one JSON object on standard output and in `runs/profiling`; `missed` names readers with a fault.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from vitmalis.command_line import CommandLine
from vitmalis.errors import UserError
from vitmalis_jobs.common.arguments import check_positive
from vitmalis_jobs.common.cli import job_parser, option_job
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.job_output import emit
from vitmalis_jobs.validation.reader_fuzz.targets import TARGETS

SLOWEST_S = 5.0
"""Most processor time that a reader may take for one input of at most 64 KiB."""
HANG_S = 120.0
"""A process that runs so much longer than asked for hangs."""


def fuzz_reader(name: str, seconds: float, seed: int, folder: Path) -> dict[str, Any]:
    """Fuzz one reader in a process.

    Returns:
        coverage_guided, inputs, slowest_s, faults by their place; the worker's end as a fault where it died or hung.
    """
    folder.mkdir(parents=True, exist_ok=True)
    module = "vitmalis_jobs.validation.reader_fuzz.worker"
    command = [sys.executable, "-X", "faulthandler", "-m", module, name, str(seconds), str(seed), str(folder)]
    with (folder / "log.txt").open("w") as log:
        try:
            ended = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, timeout=seconds + HANG_S
            )
        except subprocess.TimeoutExpired:
            return _lost("hang", folder)
    lines = ended.stdout.decode().splitlines()
    if ended.returncode or not lines:
        return _lost(f"exit status {ended.returncode}", folder)
    result: dict[str, Any] = json.loads(lines[-1])
    return result


def _lost(how: str, folder: Path) -> dict[str, Any]:
    fault = {"error": f"{how}, see {folder / 'log.txt'}", "input": str(folder / "current")}
    return {"coverage_guided": None, "inputs": 0, "slowest_s": 0.0, "faults": {"process": fault}}


def command_line() -> CommandLine:
    """The options of this job."""
    parser = job_parser(
        "validation.reader_fuzz",
        "Feed damaged bytes to every function that reads files or messages; each has to refuse them.",
        {
            "": "all readers, a minute each",
            "--seconds 5": "a quick look at all",
        },
        "Exit status 1: a reader has a fault.",
    )
    parser.add_argument(
        "readers", nargs="*", default=[], metavar="READER", help=f"some of {', '.join(TARGETS)} (default: all)"
    )
    parser.add_argument("--seconds", type=int, default=60, help="seconds for each reader")
    parser.add_argument("--seed", type=int, default=1, help="seed of the damage")
    parser.add_argument(
        "--folder", type=Path, default=Path("runs/profiling/reader_fuzz"), help="folder of the result and found inputs"
    )
    return parser


def run(options: argparse.Namespace) -> bool:
    """Fuzz the readers, print and store the results; False when one has a fault."""
    check_positive(options, "seconds")
    if unknown := [name for name in options.readers if name not in TARGETS]:
        raise UserError(f"reader '{unknown[0]}' is unknown: choose among {', '.join(TARGETS)}")
    terminal, results = Terminal.on_stderr(), dict[str, dict[str, Any]]()
    names = options.readers or list(TARGETS)
    if importlib.util.find_spec("atheris") is None:
        terminal.note("without atheris seeds are mutated blindly: pip install 'vitmalis[fuzz]' guides them by coverage")
    for name in names:
        results[name] = fuzz_reader(name, options.seconds, options.seed, options.folder.absolute() / name)
        terminal.step(len(results), len(names), "readers")
    missed = [name for name, result in results.items() if result["faults"] or result["slowest_s"] > SLOWEST_S]
    emit({"seed": options.seed, "readers": results, "missed": missed}, options.folder / "reader_fuzz.json")
    return not missed


main = option_job(command_line, run)


if __name__ == "__main__":
    sys.exit(main())
