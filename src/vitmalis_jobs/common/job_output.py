"""The result of a job: one JSON object on standard output and in a file; a number that is undefined is null."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from vitmalis.paths import atomic_path


def emit(result: dict[str, Any], path: Path) -> None:
    """Print a result on standard output and store it."""
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
