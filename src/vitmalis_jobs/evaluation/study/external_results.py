"""Figures and tables of the paper that a study's records do not hold: one decision, and results of other jobs."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import pandas as pd

from vitmalis.errors import UserError
from vitmalis.records import DECISIONS_FILE
from vitmalis.untrusted_files import damage_reported
from vitmalis_jobs.common.machine_load import BUSY
from vitmalis_jobs.evaluation.explain import draw_typical
from vitmalis_jobs.evaluation.study.page import Section

RESTORATION_POINTS = Path("runs") / "profiling" / "restoration_points.json"
ESTIMATORS = Path(str(files("vitmalis.estimation"))) / "data"
_FIG_5 = ("regions", "share", "restoration_point", "time_ratio", "f1", "downsampled_share")


def sections(runs: pd.DataFrame, folder: Path) -> list[Section]:
    """Fig. 3 and 7 of the first run that explains its decisions, drawn into `folder`; Fig. 5 and Table II as stored."""
    return [*_decision(runs, folder), *_restoration_points(RESTORATION_POINTS), *_estimators(ESTIMATORS)]


def _decision(runs: pd.DataFrame, folder: Path) -> list[Section]:
    """The regions and the decision of one offload, if a policy of the study weighs candidates."""
    explained = [run for run in runs.itertuples() if (Path(str(run.run_dir)) / DECISIONS_FILE).is_file()]
    if not explained:
        return []
    run = min(explained, key=lambda run: str(run.run_dir))
    regions, decision = folder / "fig7.png", folder / "fig3.png"
    try:
        draw_typical(Path(str(run.run_dir)), regions, decision)
    except UserError as error:
        return [Section("A decision (Fig. 3, 7)", [f"{run.run_dir}: could not be drawn: {error}"])]
    of = f"One offload of {run.policy} on {run.clip}, {run.trace}; others: python -m evaluation.explain {run.run_dir}"
    of += "; the machine was busy during this run" if getattr(run, BUSY, 0) == 1.0 else ""
    return [
        Section("Region types (Fig. 7)", [of], image=regions),
        Section("A decision among candidates (Fig. 3)", [of], image=decision),
    ]


def _restoration_points(path: Path) -> list[Section]:
    """Time and accuracy of each restoration point, over all clips."""
    if not path.is_file():
        return []
    with damage_reported(f"restoration points {path}", "delete it, or make it again"):
        result = json.loads(path.read_text())
        rows = [{column: row[column] for column in _FIG_5} for row in result["rows"] if row["clip"] == "all"]
        model = f"{result['model']} {result['model_id']}"
    words = f"Made by python -m profiling.restoration_points with {model}, not by this study."
    if reasons := result.get(BUSY):
        words += f" Its times are too long: {' and '.join(reasons)} while they were measured."
    image = path.with_suffix(".png")
    table = pd.DataFrame(rows)
    return [Section("Restoration points (Fig. 5)", [words], table, image if image.is_file() else None)]


def _estimators(folder: Path) -> list[Section]:
    """The comparison of estimators on held-out parts, from the cards of the shipped ones."""
    found = []
    for card in sorted(folder.glob("*/card.md")):
        _, _, after = card.read_text().partition("### Held-out parts")
        lines = [line for line in after.partition("###")[0].splitlines() if line.startswith("|")]
        header, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        words = f"Made by python -m training.estimators for {card.parent.name} (its card has more), not by this study."
        table = pd.DataFrame(rows, columns=header)
        found.append(Section(f"Estimators of {card.parent.name} (Table II)", [words], table))
    return found
