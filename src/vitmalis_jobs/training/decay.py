"""Fit the F1 of tracked boxes by age in seconds: `python -m training.decay [RESULT]`.

The result is one of `python -m profiling.tracking`. The curves of all clips are pooled by their number of boxes; ages
are frames there and seconds here, as clips differ in frame rate. Prints the options `decay_ages_s` and `decay_f1` of
policies as YAML.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from vitmalis.command_line import CommandLine
from vitmalis.errors import UserError
from vitmalis.untrusted_files import damage_reported
from vitmalis.video.manifest import clip_entry
from vitmalis_jobs.common.cli import job_parser, option_job

AGES_S = (0.0333, 0.2, 0.4, 0.8, 1.2)
ALL = "all"


def fit(result: dict[str, Any], tracker: str) -> tuple[list[float], list[float]]:
    """Ages, s, and the F1 at each, from 0 s and F1 1 on; F1 never rises.

    Args:
        result: of `profiling.tracking`.
        tracker: whose rows count.

    Raises:
        UserError: it has no such tracker, or the eval parts of clips, which nothing may be learned from.
    """
    if result["part"] != "profile":
        raise UserError(
            f"it was measured on the {result['part']} parts of clips, on which policies are compared: measure with "
            "`python -m profiling.tracking --part profile`"
        )
    rows = [row for row in result["rows"] if row["tracker"] == tracker and row["clip"] != ALL]
    if not rows:
        raise UserError(f"it has no tracker '{tracker}': choose one of {_trackers(result)}")
    pooled = [_pooled(result["ages"], rows, age_s) for age_s in AGES_S]
    known = [(age_s, f1) for age_s, f1 in zip(AGES_S, pooled, strict=True) if f1 is not None]
    falling = np.minimum.accumulate([1.0, *(f1 for _, f1 in known)])
    return [0.0, *(age_s for age_s, _ in known)], [round(float(f1), 3) for f1 in falling]


def _trackers(result: dict[str, Any]) -> str:
    return ", ".join(sorted({row["tracker"] for row in result["rows"]}))


def _pooled(ages: list[int], rows: list[dict[str, Any]], age_s: float) -> float | None:
    """Mean F1 at an age over the clips that reach it, weighted by their boxes there; None if no clip does."""
    f1s, boxes = [], []
    for row in rows:
        age = age_s * clip_entry(row["clip"]).fps
        known = [number for number, f1 in enumerate(row["f1_by_age"]) if f1 is not None]
        if known and age <= ages[known[-1]] + 0.5:
            places = [ages[number] for number in known]
            f1s.append(float(np.interp(age, places, [row["f1_by_age"][number] for number in known])))
            boxes.append(float(np.interp(age, places, [row["boxes_by_age"][number] for number in known])))
    return float(np.average(f1s, weights=boxes)) if sum(boxes) else None


def command_line() -> CommandLine:
    """The options of this job."""
    parser = job_parser(
        "training.decay",
        "Fit the F1 of tracked boxes by age in seconds, and print the options of policies that use it.",
        {
            "": "the result of profiling.tracking --part profile",
            "--tracker flow_cache": "of another tracker",
        },
    )
    default = Path("runs/profiling/tracking.json")
    parser.add_argument(
        "result", type=Path, nargs="?", default=default, metavar="RESULT", help="file of profiling.tracking"
    )
    parser.add_argument("--tracker", default="lucas_kanade", help="tracker whose rows are fitted")
    return parser


def print_decay(options: argparse.Namespace) -> None:
    """Print the options of policies that a result gives.

    Raises:
        UserError: there is no such result, or it cannot be fitted.
    """
    if not options.result.is_file():
        raise UserError(f"{options.result} is not there: measure with `python -m profiling.tracking --part profile`")
    with damage_reported(f"result {options.result}", "measure again with `python -m profiling.tracking`"):
        ages_s, f1 = fit(json.loads(options.result.read_text()), options.tracker)
    print(f"decay_ages_s: {ages_s}\ndecay_f1: {f1}")


main = option_job(command_line, print_decay)


if __name__ == "__main__":
    sys.exit(main())
