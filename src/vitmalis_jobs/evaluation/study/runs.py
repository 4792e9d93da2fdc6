"""The runs of a study, read from the folders of its sweeps."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.progress import track

from vitmalis.errors import UserError
from vitmalis.records import FRAMES_FILE, OFFLOADS_FILE, RecordsInfo, read_info, read_offloads
from vitmalis_jobs.run.directory import read_summaries

POLICIES = ("back2back", "trackb2b", "trackroi", "trackud", "vitmalis", "wo_regtype", "wo_mlps", "wo_dynares", "oracle")
"""In the order in which they are shown; others follow by name."""
SWEEPS = Path("runs") / "sweeps"
PAIRING = ("policy", "video", "trace", "trace.index", "clips", "experiment", "clock")
"""Options that say which policy, clip, trace or clock a run has; all others make a policy's runs different ones."""
KEEPING = ("output.", "sweep.", "mlflow.", "references.", "inference_cache.", "hydra")
"""Options that change no result."""


@dataclass(frozen=True, slots=True)
class Study:
    """What was read.

    Attributes:
        runs: one row a finished run: policy, clip, trace, clock, run_dir, and every metric of the run.
        statuses: how many runs ended how.
        problems: a sentence for each run that did not finish or cannot be read.
        stand_ins: what in the runs is not the real thing.
    """

    runs: pd.DataFrame
    statuses: Counter[str]
    problems: list[str]
    stand_ins: list[str]

    @property
    def policies(self) -> list[str]:
        """Those that have runs, in the order of `POLICIES`."""
        return in_order(self.runs["policy"].unique())


def in_order(policies: Iterable[str]) -> list[str]:
    """Sort policies as they are shown."""
    return sorted(policies, key=lambda name: (POLICIES.index(name) if name in POLICIES else len(POLICIES), name))


def read_study(sweeps: Sequence[Path], clock: str | None = None) -> Study:
    """Read sweeps. A policy that was run with several options is shown as several, named after what differs.

    Of runs that are equal in all that was asked for, the last one read counts.

    Args:
        sweeps: folders, or names of folders below `runs/sweeps`.
        clock: take only runs of this one.

    Raises:
        UserError: there is no such sweep, none of its runs finished, or both clocks are mixed in it.
    """
    rows, statuses, problems = [], Counter[str](), []
    for summary in [summary for sweep in sweeps for summary in read_summaries(sweep_folder(sweep))]:
        status, what = summary["status"], " ".join(summary["overrides"])
        if status == "FINISHED":
            try:
                rows.append(_row(summary))
            except UserError as error:
                status, summary["error"] = "UNREADABLE", str(error)
        statuses[status] += 1
        if status != "FINISHED":
            problems.append(f"{what}: {status.lower()}, {summary.get('error', 'no reason given')}")
    if not rows:
        raise UserError(f"{', '.join(map(str, sweeps))}: no run of it finished; {'; '.join(problems) or 'it is empty'}")
    rows = [row for row in rows if clock in (None, row["clock"])]
    if len(clocks := {row["clock"] for row in rows}) != 1:
        raise UserError(f"{', '.join(map(str, sweeps))}: runs of clocks {sorted(clocks)}: choose one with --clock")
    runs = pd.DataFrame(_told_apart(rows)).drop(columns="asked")
    stand_ins = sorted({f"{part}: {what}" for row in rows for part, what in row["stand_ins"].items()})
    runs = runs.drop(columns="stand_ins").drop_duplicates(["policy", "clip", "trace"], keep="last")
    return Study(runs.reset_index(drop=True), statuses, problems, stand_ins)


def _told_apart(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add to a policy's name the options in which its runs differ beside clip and trace."""
    varied: dict[str, set[str]] = {}
    for policy in {row["policy"] for row in rows}:
        asked = [row["asked"] for row in rows if row["policy"] == policy]
        keys = {key for options in asked for key in options}
        varied[policy] = {key for key in keys if len({options.get(key) for options in asked}) > 1}
    for row in rows:
        options = [f"{key}={row['asked'].get(key, 'default')}" for key in sorted(varied[row["policy"]])]
        row["policy"] = f"{row['policy']} ({', '.join(options)})" if options else row["policy"]
    return rows


def offload_table(runs: pd.DataFrame) -> pd.DataFrame:
    """The answered offloads of all runs, with their durations in ms: policy, clip, trace, encode_ms, ...

    Progress is shown on standard error: a large study has a file for each of thousands of runs.
    """
    stages = ("encode", "decode", "network", "inference", "e2e_latency", "motion", "estimation", "optimization")
    rows = []
    told = Console(stderr=True)
    for run in track(runs.itertuples(), "reading records", total=len(runs), console=told, transient=True):
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


def sweep_folder(sweep: Path) -> Path:
    """The folder of a sweep, given as such or by its name below `runs/sweeps`; raises `UserError` if there is none."""
    for folder in (sweep, SWEEPS / sweep):
        if folder.is_dir():
            return folder
    raise UserError(f"sweep '{sweep}': there is no such folder, nor one of that name in {SWEEPS}")


def _row(summary: dict[str, Any]) -> dict[str, Any]:
    run_dir = Path(summary["run_dir"])
    info: RecordsInfo = read_info(run_dir / FRAMES_FILE)
    facts = {"policy": info.policy, "clip": info.clip, "trace": info.trace, "clock": info.clock}
    asked = dict(override.lstrip("+~").partition("=")[::2] for override in summary["overrides"])
    asked = {key: value for key, value in asked.items() if key not in PAIRING and not key.startswith(KEEPING)}
    stand_ins = summary.get("stand_ins", {"unknown": "runs from before stand-ins were noted; see their MLflow tags"})
    return {**facts, "run_dir": str(run_dir), "asked": asked, "stand_ins": stand_ins, **summary["metrics"]}
