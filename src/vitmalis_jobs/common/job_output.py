"""The result of a job: one JSON object on standard output and in a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vitmalis.paths import atomic_path


def emit(result: dict[str, Any], path: Path) -> None:
    """Print a result on standard output and store it."""
    text = json.dumps(result, indent=2)
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n")
    print(text)
