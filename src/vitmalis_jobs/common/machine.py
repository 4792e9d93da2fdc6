"""Facts about this machine and this checkout that results record."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@cache
def git_commit() -> str:
    """Commit of this checkout, ending in `-dirty` when files differ from it; `unknown` outside a checkout."""
    checkout = Path(__file__).resolve().parents[3]
    if not (checkout / "evaluate.py").is_file():
        return "unknown"  # installed: a repository around the environment is another project's
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def card_name(device: torch.device) -> str:
    """Name of the GPU, or of the processor, that a device is."""
    if device.type != "cuda":
        return processor()
    import torch

    return torch.cuda.get_device_name(device)


def processor() -> str:
    """Name of this machine's processor."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
