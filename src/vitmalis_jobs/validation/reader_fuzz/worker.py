"""The process that fuzzes one reader; its arguments are the reader, seconds, a seed and a folder.

With atheris (the extra `fuzz`) libFuzzer mutates inputs towards new paths through the code. Without it seeds are
mutated blindly. Either way faults are caught here, so that one does not hide the next, and reported as one JSON object.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import os
import random
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitmalis_jobs.validation.reader_fuzz.targets import Target

MAX_MEMORY = 4 * 2**30
MAX_INPUT = 64 * 1024
INSTRUMENTED = ("vitmalis",)
TARGETS_MODULE = "vitmalis_jobs.validation.reader_fuzz.targets"


class Session:
    """Reads inputs until its time is over, and collects what goes wrong.

    Args:
        target: the reader.
        folder: where inputs that show a fault are kept.
        scratch: where the reader may write.
    """

    def __init__(self, target: Target, folder: Path, scratch: Path) -> None:
        self._target, self._folder, self._scratch = target, folder, scratch
        self._faults: dict[str, dict[str, str]] = {}
        self._inputs = 0
        self._slowest_s = 0.0

    def read(self, data: bytes) -> None:
        """Read one input; a hang leaves it in the folder as `current`."""
        (self._folder / "current").write_bytes(data)
        start_s = time.process_time()
        try:
            self._target.read(data, self._scratch)
        except self._target.refusals:
            pass
        except Exception as error:
            self._keep(error, data)
        self._slowest_s = max(self._slowest_s, time.process_time() - start_s)
        self._inputs += 1

    def _keep(self, error: Exception, data: bytes) -> None:
        """Keep the first input for each kind of error at each place."""
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}"
        if place in self._faults:
            return
        path = self._folder / f"fault-{hashlib.sha256(data).hexdigest()[:12]}"
        path.write_bytes(data)
        self._faults[place] = {"error": f"{type(error).__name__}: {str(error)[:200]}", "input": str(path)}

    def result(self) -> dict[str, Any]:
        """What was read, and the faults by their place."""
        return {"inputs": self._inputs, "slowest_s": round(self._slowest_s, 3), "faults": self._faults}


def fuzz_blindly(session: Session, seeds: list[bytes], seed: int, over: Callable[[], bool]) -> None:
    """Read mutated seeds until time is over."""
    draws = random.Random(seed)
    for data in seeds:
        session.read(data)
    while not over():
        session.read(mutated(draws.choice(seeds), draws))


def mutated(data: bytes, draws: random.Random) -> bytes:
    """Flip, overwrite, cut, repeat and insert bytes, a few times."""
    for _ in range(draws.choice((1, 1, 2, 8))):
        at = draws.randrange(len(data) + 1)
        size = draws.choice((1, 2, 4, 100))
        part = data[at : at + size]
        change = draws.randrange(5)
        if change == 0 and part:
            data = data[:at] + bytes([part[0] ^ 1 << draws.randrange(8)]) + data[at + 1 :]
        elif change == 1:
            data = data[:at] + draws.choice((b"\xff", b"\0", b"9", b"-", b"e", b"\x7f")) * size + data[at + size :]
        elif change == 2:
            data = data[:at] + data[at + size :]
        elif change == 3:
            data = data[:at] + part * draws.choice((2, 30)) + data[at:]
        else:
            data = data[:at] + draws.randbytes(size) + data[at:]
    return data[:MAX_INPUT]


def fuzz_with_coverage(
    session: Session, seeds: list[bytes], seed: int, folder: Path, over: Callable[[], bool], done: Callable[[], None]
) -> None:
    """Read what libFuzzer makes of the seeds; it does not return, so `done` ends the process."""
    import atheris

    corpus = folder / "corpus"
    corpus.mkdir(exist_ok=True)
    for number, data in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(data)

    def read(data: bytes) -> None:
        if over():
            done()
        session.read(data)

    atheris.Setup([sys.argv[0], f"-seed={seed}", f"-max_len={MAX_INPUT}", "-timeout=600", str(corpus)], read)
    atheris.Fuzz()


def main() -> None:
    """Fuzz the target of the command line and print the result."""
    name, seconds, seed, place = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    coverage = importlib.util.find_spec("atheris") is not None
    target = _targets(coverage)[name]
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    end_s = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as scratch:
        session = Session(target, place, Path(scratch))
        seeds = target.seeds(Path(scratch))

        def over() -> bool:
            return time.monotonic() > end_s

        def done() -> None:
            (place / "current").unlink(missing_ok=True)
            print(json.dumps({"coverage_guided": coverage, **session.result()}), flush=True)
            os._exit(0)

        if coverage:
            fuzz_with_coverage(session, seeds, seed, place, over, done)
        else:
            fuzz_blindly(session, seeds, seed, over)
            done()


def _targets(coverage: bool) -> dict[str, Target]:
    """The targets, imported so that atheris sees which lines of the library are executed."""
    if not coverage:
        return dict(importlib.import_module(TARGETS_MODULE).TARGETS)
    import atheris

    with atheris.instrument_imports(include=list(INSTRUMENTED)):
        return dict(importlib.import_module(TARGETS_MODULE).TARGETS)


if __name__ == "__main__":
    main()
