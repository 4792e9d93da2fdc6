"""Where latency tables of this machine are stored, shared by the job that measures them and the runs that use them.

Only tables that were measured on a quiet machine are kept. Those of a busy one are stored under another name, for the
command that measured them; the next command measures again.
"""

from __future__ import annotations

import hashlib
import platform
import re
from pathlib import Path

import msgspec
import psutil

from vitmalis.estimation.latency import LatencyTables
from vitmalis.fingerprint import code_fingerprint
from vitmalis.paths import cache_dir
from vitmalis_jobs.common.machine import processor
from vitmalis_jobs.common.machine_load import BUSY

MEASURED_BY = "vitmalis_jobs.profiling.latency.measure"
"""The module that measures latency tables; a change in what it imports makes runs measure again."""


class TablesKey(msgspec.Struct, frozen=True, kw_only=True):
    """What latency tables of this machine are valid for.

    Attributes:
        model, model_id: the detector.
        width_px, height_px: of the frames.
        device: that the model runs on, as PyTorch names it.
        client_threads, server_threads: of OpenCV and PyTorch.
        engine: that runs the model, "eager" or "fused".
        compiled: whether the server compiles it.
    """

    model: str
    model_id: str
    width_px: int
    height_px: int
    device: str
    client_threads: int
    server_threads: int
    engine: str
    compiled: bool

    def path(self) -> Path:
        """The file in which the tables of this machine are kept."""
        host = (platform.node(), processor(), psutil.cpu_count(), code_fingerprint(MEASURED_BY))
        digest = hashlib.sha256(msgspec.json.encode([host, self])).hexdigest()[:8]
        model = re.sub(r"[^\w.-]", "_", self.model)[:60]  # for people; the digest has the whole name
        return cache_dir() / "latency" / f"{model}-{self.model_id}-{self.width_px}x{self.height_px}-{digest}.json"

    def busy_path(self) -> Path:
        """The file of tables that were measured on a busy machine."""
        return self.path().with_suffix(".busy.json")


def busy_reasons(tables: LatencyTables) -> tuple[str, ...]:
    """What kept the machine busy while tables were measured, as phrases; empty for a quiet machine."""
    return tuple(tables.host.get(BUSY, ()))
