"""The runs of a study, read from the folders of its sweeps."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from evaluation.sweep import read_summaries
from vitmalis.errors import UserError
from vitmalis.records import FRAMES_FILE, OFFLOADS_FILE, RecordsInfo, read_info, read_offloads

POLICIES = ("back2back", "trackb2b", "trackroi", "trackud", "vitmalis", "wo_regtype", "wo_mlps", "wo_dynares", "oracle")
"""In the order in which they are shown; others follow by name."""
SWEEPS = Path("runs") / "sweeps"


@dataclass(frozen=True, slots=True)
class Study:
    """What was read.

    Attributes:
        runs: one row a finished run: policy, clip, trace, clock, run_dir, and every metric of the run.
        statuses: how many runs ended how.
        problems: a sentence for each run that did not finish or cannot be read.
    """

    runs: pd.DataFrame
    statuses: Counter[str]
    problems: list[str]

    @property
    def policies(self) -> list[str]:
        """Those that have runs, in the order of `POLICIES`."""
        return in_order(self.runs["policy"].unique())


def in_order(policies: Iterable[str]) -> list[str]:
    """Sort policies as they are shown."""
    return sorted(policies, key=lambda name: (POLICIES.index(name) if name in POLICIES else len(POLICIES), name))


def read_study(sweeps: Sequence[Path]) -> Study:
    """Read sweeps; of equal runs (policy, clip, trace, clock) the last one read counts.

    Args:
        sweeps: folders, or names of folders below `runs/sweeps`.

    Raises:
        UserError: there is no such sweep, or none of its runs finished.
    """
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    statuses: Counter[str] = Counter()
    problems = []
    for sweep in map(_folder, sweeps):
        for summary in read_summaries(sweep):
            status, what = summary["status"], " ".join(summary["overrides"])
            statuses[status] += 1
            if status != "FINISHED":
                problems.append(f"{what}: {status.lower()}, {summary.get('error', 'no reason given')}")
                continue
            try:
                row = _row(summary)
            except UserError as error:
                statuses["UNREADABLE"] += 1
                problems.append(f"{what}: {error}")
                continue
            rows[row["policy"], row["clip"], row["trace"], row["clock"]] = row
    if not rows:
        raise UserError(f"{', '.join(map(str, sweeps))}: no run of it finished; {'; '.join(problems) or 'it is empty'}")
    return Study(pd.DataFrame(rows.values()), statuses, problems)


def offload_table(runs: pd.DataFrame) -> pd.DataFrame:
    """The answered offloads of all runs, with their durations in ms: policy, clip, trace, encode_ms, ..."""
    stages = ("encode", "decode", "network", "inference", "e2e_latency", "motion", "estimation", "optimization")
    rows = []
    for run in runs.itertuples():
        offloads = [o for o in read_offloads(Path(str(run.run_dir)) / OFFLOADS_FILE) if o.status == "ok"]
        for before, offload in zip([None, *offloads], offloads, strict=False):
            durations = {name: getattr(offload, f"{name}_s") for name in stages}
            rows.append(
                {"policy": run.policy, "clip": run.clip, "trace": run.trace}
                | {f"{name}_ms": None if value is None else 1e3 * value for name, value in durations.items()}
                | {"interval_frames": offload.frame_index - before.frame_index if before else None}
            )
    return pd.DataFrame(rows).astype({f"{name}_ms": float for name in stages} | {"interval_frames": float})


def paper_numbers() -> dict[str, dict[str, float]]:
    """What the paper states, by quantity and policy."""
    return tomllib.loads((Path(__file__).parent / "paper.toml").read_text())


def _folder(sweep: Path) -> Path:
    for folder in (sweep, SWEEPS / sweep):
        if folder.is_dir():
            return folder
    raise UserError(f"sweep '{sweep}': there is no such folder, nor one of that name in {SWEEPS}")


def _row(summary: dict[str, Any]) -> dict[str, Any]:
    run_dir = Path(summary["run_dir"])
    info: RecordsInfo = read_info(run_dir / FRAMES_FILE)
    facts = {"policy": info.policy, "clip": info.clip, "trace": info.trace, "clock": info.clock}
    return {**facts, "run_dir": str(run_dir), **summary["metrics"]}
