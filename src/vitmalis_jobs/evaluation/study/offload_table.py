"""The answered offloads of a study's runs, as a table."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.progress import track

from vitmalis.records import OFFLOADS_FILE, read_offloads

STAGES = ("encode", "decode", "network", "inference", "e2e_latency", "motion", "estimation", "optimization")
"""Durations of an offload, as named in its record."""


def offload_table(runs: pd.DataFrame) -> pd.DataFrame:
    """The answered offloads of all runs: policy, clip, trace, interval in frames, and durations such as `encode_ms`.

    The interval is since the offload before, also a lost one, as in a run's own metric; second rounds have none.
    The estimation time of an offload includes that of estimates which were made ahead of its decision (`ahead_s`).

    Progress is shown on standard error: a large study has a file for each of thousands of runs.
    """
    rows: list[dict[str, Any]] = []
    console = Console(stderr=True)
    for run in track(runs.itertuples(), "reading records", total=len(runs), console=console, transient=True):
        facts = {"policy": run.policy, "clip": run.clip, "trace": run.trace}
        rows += [facts | offload for offload in _answered_offloads(Path(str(run.run_dir)) / OFFLOADS_FILE)]
    return pd.DataFrame(rows).astype({f"{name}_ms": float for name in STAGES} | {"interval_frames": float})


def _answered_offloads(path: Path) -> list[dict[str, float | None]]:
    offloads, rows = read_offloads(path), []
    first_rounds = [offload for offload in offloads if offload.second_round_of < 0]
    intervals = {
        offload.offload_id: offload.frame_index - before.frame_index for before, offload in pairwise(first_rounds)
    }
    for offload in (offload for offload in offloads if offload.status == "ok"):
        durations = {name: getattr(offload, f"{name}_s") for name in STAGES}
        if offload.ahead_s is not None:
            durations["estimation"] = (offload.estimation_s or 0.0) + offload.ahead_s
        row = {f"{name}_ms": None if value is None else 1e3 * value for name, value in durations.items()}
        rows.append(row | {"interval_frames": intervals.get(offload.offload_id)})
    return rows
