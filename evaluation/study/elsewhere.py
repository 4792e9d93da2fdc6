"""The paper's figures that a study's records do not hold: pictures of one run, and what other jobs measured."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import pandas as pd

from evaluation.study.page import Section

RESTORATION_POINTS = Path("runs") / "profiling" / "restoration_points.json"
ESTIMATORS = Path(str(files("vitmalis.estimation"))) / "data"
_FIG_5 = ("regions", "share", "restoration_point", "time_ratio", "f1", "downsampled_share")


def sections(runs: pd.DataFrame) -> list[Section]:
    """Fig. 3 and 7 of the first run that explains itself, Fig. 5 and Table II as last measured here."""
    return [*_pictures(runs), *_restoration_points(RESTORATION_POINTS), *_estimators(ESTIMATORS)]


def _pictures(runs: pd.DataFrame) -> list[Section]:
    """The regions and the decision of one offload, drawn by a run whose policy weighs candidates."""
    for run in runs.sort_values("run_dir").itertuples():
        folder = Path(str(run.run_dir))
        if (folder / "regions.png").is_file() and (folder / "decision.png").is_file():
            of = f"One offload of {run.policy} on {run.clip}, {run.trace}; other frames: python -m evaluation.explain."
            return [
                Section("Region types (Fig. 7)", [of], image=folder / "regions.png"),
                Section("A decision among candidates (Fig. 3)", [of], image=folder / "decision.png"),
            ]
    return []


def _restoration_points(path: Path) -> list[Section]:
    """Time and accuracy over restoration points, all clips together."""
    if not path.is_file():
        return []
    result = json.loads(path.read_text())
    rows = [{column: row[column] for column in _FIG_5} for row in result["rows"] if row["clip"] == "all"]
    model = f"{result['model']} {result['model_id']}"
    words = f"Made by python -m profiling.restoration_points with {model}, not by this study."
    picture = path.with_suffix(".png")
    image = picture if picture.is_file() else None
    return [Section("Restoration points (Fig. 5)", [words], pd.DataFrame(rows), image)]


def _estimators(folder: Path) -> list[Section]:
    """The comparison of estimators on held-out parts, out of the cards of the shipped ones."""
    found = []
    for card in sorted(folder.glob("*/card.md")):
        _, _, after = card.read_text().partition("### Held-out parts")
        lines = [line for line in after.partition("###")[0].splitlines() if line.startswith("|")]
        header, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        words = f"Made by python -m training.estimators for {card.parent.name} (its card has more), not by this study."
        found.append(
            Section(f"Estimators of {card.parent.name} (Table II)", [words], pd.DataFrame(rows, columns=header))
        )
    return found
