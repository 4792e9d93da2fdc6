"""The result of a job: one JSON object on standard output and in a file; a number that is undefined is null."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from vitmalis.paths import atomic_path
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.machine_load import MachineLoad


def emit(result: dict[str, Any], path: Path, load: MachineLoad | None = None) -> None:
    """Print a result on standard output and store it.

    Args:
        result: of the job.
        path: JSON file to store it in.
        load: of the machine, for a result that was measured in time: stored with it, and warned of on a busy machine.
    """
    if load is not None:
        result = result | load.facts
        if load.reasons:
            Terminal.on_stderr().warn(
                f"do not trust these durations: {' and '.join(load.reasons)} while they were measured; repeat the job "
                "on a quiet machine"
            )
    text = json_text(result)
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n")
    print(text)


def json_text(content: dict[str, Any]) -> str:
    """JSON with null for numbers that are not a number, which JSON has no word for."""
    return json.dumps(_defined(content), indent=2)


def _defined(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _defined(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_defined(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
