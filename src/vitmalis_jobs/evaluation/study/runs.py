"""A study: the runs of one or more sweeps, read from their folders."""

from __future__ import annotations

import os
import tomllib
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from vitmalis.client.session import SESSION_FILE, read_session
from vitmalis.errors import UserError
from vitmalis.records import FRAMES_FILE, RecordsInfo, read_frames, read_info
from vitmalis_jobs.evaluation.study.labels import counted
from vitmalis_jobs.run.directory import RUN_FILE, read_summaries, read_sweep
from vitmalis_jobs.run.vary import OPTION, variation

SWEEPS = Path("runs") / "sweeps"
FILES = {"clip": "video.path", "trace": "trace.path"}
"""Options that name a user's file, by what the run calls after it."""
PAIRING = (
    *("policy", "video", "clips", "experiment", "clock", OPTION),
    *("trace", "trace.index", "trace.source", "trace.seed"),
    *FILES.values(),
)
"""Options that say which policy, clip, trace, clock or variation a run has; any other makes a variant of its policy."""
NO_EFFECT = ("output.", "sweep.", "mlflow.", "references.workers", "inference_cache.", "hydra")
"""Beginnings of options that change no result."""
DEVICES = "devices.count"
"""Option that says how many devices a run has; its metrics say it, too."""
GEOMETRY = ("model.window", "model.downsampling_factor")
"""Options that say which decision regions a run has; its session says which they are in the end."""
REAL, RENDERED, UNKNOWN = FOOTAGE = ("real", "rendered", "unknown")
"""Kinds of footage: filmed, rendered in place of a video that is not here, or not noted by an old run."""
TRACE_KINDS = ("generated", "measured", "file", "constant", UNKNOWN)
"""Kinds of traces: by the generator, of a folder of measured ones, a user's file, a constant rate; or not noted."""


@dataclass(frozen=True, slots=True)
class Study:
    """The runs of one or more sweeps.

    Attributes:
        runs: one row for each finished run that varies nothing: policy, clip, its footage (real, rendered or unknown),
            trace, its trace_kind, trace_start_s (the second of it at which it began), clock, run_dir, every metric,
            window and downsampling_factor of its decision regions, number of devices, and the policy's name without
            these (configuration).
        varied: the same for the runs with `vary`, and what they vary (variation).
        statuses: number of runs by status.
        problems: a sentence for each run that did not finish or cannot be read.
        stand_ins: what in the runs stands for something else.
    """

    runs: pd.DataFrame
    varied: pd.DataFrame
    statuses: Counter[str]
    problems: list[str]
    stand_ins: list[str]

    @property
    def policies(self) -> list[str]:
        """Names of the policies that have runs, in the order in which a report shows them."""
        return ordered(self.runs["policy"].unique())


def ordered(policies: Iterable[str]) -> list[str]:
    """Sort policies: the paper's in its order, then all others as they appear."""
    papers = list(paper_numbers()["rendering_f1_median"])

    def place(policy: str) -> int:
        kind = policy.partition(" (")[0]  # variants are called `kind (option=value)`
        return papers.index(kind) if kind in papers else len(papers)

    return sorted(policies, key=place)


def read_study(sweeps: Sequence[Path], clock: str | None = None) -> Study:
    """Read sweeps. A policy that was run with several options becomes several variants, named after what differs.

    Of runs that were asked for with the same options, the last one counts.

    Args:
        sweeps: folders, or names of folders below `runs/sweeps`.
        clock: use only the runs of this clock.

    Raises:
        UserError: there is no such sweep, none of its runs finished, all vary something, or both clocks, several parts
            of one trace, or several files of one name, are mixed in it.
    """
    names = ", ".join(map(str, sweeps))
    rows, statuses, problems = _read_runs(sweeps)
    if not rows:
        raise UserError(f"{names}: no run of it finished; {'; '.join(problems) or 'it holds no runs of a sweep'}")
    rows = [row for row in rows if clock in (None, row["clock"])]
    if len(clocks := {row["clock"] for row in rows}) != 1:
        raise UserError(f"{names}: runs of clocks {sorted(clocks)}: choose one with --clock")
    _check_files(rows)
    _name_variants(rows)
    stand_ins = sorted({f"{part}: {what}" for row in rows for part, what in row["stand_ins"].items()})
    runs = pd.DataFrame(rows).drop_duplicates(["policy", "clip", "trace", "variation"], keep="last")
    _check_traces(runs)
    varied = runs["variation"] != ""
    if varied.all():
        raise UserError(f"{names}: all runs vary something, none is what they are compared with: add {OPTION}=null")
    runs = runs.drop(columns=["options", "stand_ins", "files"])
    base = runs[~varied].drop(columns="variation").reset_index(drop=True)
    return Study(base, runs[varied].reset_index(drop=True), statuses, problems, stand_ins)


def _read_runs(sweeps: Sequence[Path]) -> tuple[list[dict[str, Any]], Counter[str], list[str]]:
    """Rows of the finished runs, the number of runs by status, and a sentence for each run without a row."""
    rows, statuses, problems = [], Counter[str](), []
    summaries = [(sweep, summary) for sweep in map(sweep_folder, sweeps) for summary in read_summaries(sweep)]
    for folder, summary in summaries:
        status = summary["status"]
        if status == "FINISHED":
            try:
                rows.append(_row(summary, folder))
            except UserError as error:
                status, summary["error"] = "UNREADABLE", str(error)
        statuses[status] += 1
        if status != "FINISHED":
            reason = summary.get("error", "no reason given")
            problems.append(f"{' '.join(summary['overrides'])}: {status.lower()}, {reason}")
    for sweep in sweeps:
        if unmade := _unmade(sweep_folder(sweep)):
            statuses["NOT MADE"] += unmade
            problems.append(f"sweep {sweep}: {counted(unmade, 'run')} not made yet; its command goes on with them")
    return rows, statuses, problems


def _unmade(folder: Path) -> int:
    """How many runs of a sweep have not ended so far; 0 where its file does not say how many it has."""
    with suppress(UserError):
        return max(0, int(read_sweep(folder).get("runs", 0)) - len(read_summaries(folder)))
    return 0


def _row(summary: dict[str, Any], sweep: Path) -> dict[str, Any]:
    run_dir = _found(Path(summary["run_dir"]), sweep)
    info: RecordsInfo = read_info(run_dir / FRAMES_FILE)
    facts: dict[str, Any] = {"policy": info.policy, "clip": info.clip, "trace": info.trace, "clock": info.clock}
    geometry = _geometry(run_dir)
    options = dict(override.lstrip("+~").partition("=")[::2] for override in summary["overrides"])
    files = {name: _asked(options[option], summary, run_dir) for name, option in FILES.items() if option in options}
    known = (DEVICES, *(GEOMETRY if geometry else ()))
    options = {key: value for key, value in options.items() if key not in known}
    options = {key: value for key, value in options.items() if key not in PAIRING and not key.startswith(NO_EFFECT)}
    stand_ins = summary.get("stand_ins", {"unknown": "runs from before stand-ins were noted; see their MLflow tags"})
    metrics = _defined(summary["metrics"], run_dir)
    played = summary.get("trace", {})  # older runs do not say it; most began at 0
    facts |= {"trace_kind": _trace_kind(played.get("source", "")), "trace_start_s": played.get("start_s", 0.0)}
    facts["variation"] = variation(summary["overrides"])
    facts["footage"] = _footage(summary.get("stand_ins"))
    facts["devices"] = 1.0  # of several, the number is among the metrics
    facts |= {"run_dir": str(run_dir), "options": options, "stand_ins": stand_ins, "files": files}
    return {**facts, **geometry, **metrics}


def _asked(path: str, summary: dict[str, Any], run_dir: Path) -> Path:
    """A file that a run's options name, as seen from the project: the folder that the run's own is named from."""
    above = len(Path(summary["run_dir"]).parts)
    project = run_dir.resolve().parents[above - 1] if above <= len(run_dir.resolve().parents) else Path()
    return Path(os.path.normpath(project / path.strip("'\"")))


def _footage(stand_ins: dict[str, str] | None) -> str:
    """Whether the camera's frames were filmed or rendered, by the stand-ins of a run; None of an old run."""
    if stand_ins is None:
        return UNKNOWN
    return RENDERED if "video" in stand_ins else REAL


def _trace_kind(source: str) -> str:
    """Kind of a trace by its source, which is a folder for measured ones."""
    if not source:
        return UNKNOWN
    return source if source in TRACE_KINDS else "measured"


def _geometry(run_dir: Path) -> dict[str, int]:
    """Window and downsampling factor of a run's decision regions; empty for a run without a session."""
    try:
        geometry = read_session(run_dir / SESSION_FILE).geometry
    except UserError:
        return {}
    return {"window": geometry.window, "downsampling_factor": geometry.factor}


def _defined(metrics: dict[str, float], run_dir: Path) -> dict[str, float]:
    """The metrics of a run without an F1 that means nothing.

    Runs of earlier versions have F1 and recall 1 where nothing was to be found, or F1 0 where something was shown.
    """
    f1, recall = metrics.get("rendering_f1"), metrics.get("rendering_recall")
    if not ((f1 == 0 and recall == 1) or (f1 == 1 and not _shows_boxes(run_dir))):
        return metrics
    return {name: value for name, value in metrics.items() if name not in ("rendering_f1", "inference_f1")}


def _shows_boxes(run_dir: Path) -> bool:
    return any(len(frame.detections) for frame in read_frames(run_dir / FRAMES_FILE))


def _found(run_dir: Path, sweep: Path) -> Path:
    """A run's folder as a path from here. Summaries name it as seen from the project, which may be a folder above."""
    return next((base / run_dir for base in (Path(), *sweep.resolve().parents) if (base / run_dir).is_dir()), run_dir)


def _name_variants(rows: list[dict[str, Any]]) -> None:
    """Append to each policy's name the options, the regions and the number of devices in which its runs differ."""
    varied: dict[str, list[str]] = {}
    regions: dict[str, bool] = {}
    devices: dict[str, bool] = {}
    for policy in {row["policy"] for row in rows}:
        own = [row for row in rows if row["policy"] == policy]
        keys = {key for row in own for key in row["options"]}
        varied[policy] = sorted(key for key in keys if len({row["options"].get(key) for row in own}) > 1)
        regions[policy] = len({(row.get("window"), row.get("downsampling_factor")) for row in own}) > 1
        devices[policy] = len({row["devices"] for row in own}) > 1
    for row in rows:
        policy = row["policy"]
        named = [f"{key}={row['options'].get(key, 'default')}" for key in varied[policy]]
        row["configuration"] = _named(policy, named)
        if regions[policy]:
            named += [f"w={row.get('window', 'unknown')}", f"d={row.get('downsampling_factor', 'unknown')}"]
        if devices[policy]:
            named.append(f"devices={row['devices']:g}")
        row["policy"] = _named(policy, named)


def _check_files(rows: Sequence[dict[str, Any]]) -> None:
    """Refuse runs of several files that have one name, which would be taken for the same clip or trace."""
    for name in FILES:
        paths: dict[str, set[Path]] = {}
        for row in rows:
            paths.setdefault(row[name], set()).update({row["files"][name]} if name in row["files"] else ())
        for what, found in paths.items():
            if len(found) > 1:
                listed = " and ".join(map(str, sorted(found)))
                raise UserError(
                    f"runs of {name} {what} played different files of this name ({listed}) "
                    "and cannot be told apart: give each file a name of its own, or report their sweeps one by one"
                )


def _check_traces(runs: pd.DataFrame) -> None:
    """Refuse runs of one clip and trace that played different links, unless their options say so."""
    asked = runs["options"].map(lambda options: options.get("trace.start_s"))
    for (clip, trace, _), pair in runs[asked.isna()].groupby(["clip", "trace", "variation"]):
        kinds = sorted(set(pair["trace_kind"]) - {UNKNOWN})
        starts = [f"from {start:g} s on" for start in sorted(pair["trace_start_s"].unique())]
        different = kinds if len(kinds) > 1 else starts if len(starts) > 1 else []
        if different:
            raise UserError(
                f"runs of {clip} over {trace} played different traces of this name ({' and '.join(different)}) and "
                "cannot be compared: report their sweeps one by one, or make them again"
            )


def _named(policy: str, options: Sequence[str]) -> str:
    return f"{policy} ({', '.join(options)})" if options else policy


@cache
def paper_numbers() -> dict[str, dict[str, float]]:
    """The paper's numbers, by quantity and policy."""
    return tomllib.loads((Path(__file__).parent / "paper.toml").read_text())


def sweep_folder(sweep: Path) -> Path:
    """The folder of a sweep, given as such or by its name below `runs/sweeps`; raises `UserError` if there is none."""
    if sweep == Path():
        raise UserError("give the folder of a sweep, or its name below runs/sweeps")
    for folder in (sweep, SWEEPS / sweep):
        if (folder / RUN_FILE).exists():
            raise UserError(f"'{folder}' is the folder of a run, no sweep: vitmalis page makes a page of one run")
        if folder.is_dir():
            return folder
    raise UserError(f"sweep '{sweep}': there is no such folder, nor one of that name in {SWEEPS}")
