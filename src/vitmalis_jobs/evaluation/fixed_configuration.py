"""Choose the default of `policy=fixed` from a sweep: `python -m evaluation.fixed_configuration SWEEP`.

The sweep is one of `experiment=fixed eval.part=profile`: a configuration that is compared with policies on the eval
parts of clips must not be chosen there, so runs of any other part are refused. Every clip counts alike.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pandas as pd

from vitmalis.command_line import CommandLine
from vitmalis.errors import UserError
from vitmalis.paths import atomic_path
from vitmalis_jobs.common.cli import job_parser, option_job
from vitmalis_jobs.evaluation.finished_run import read_run_config
from vitmalis_jobs.evaluation.study import hindsight
from vitmalis_jobs.evaluation.study.runs import read_study, sweep_folder

OPTIONS = ("tau_d", "quality", "restoration_point")
TABLE_FILE, CHOICE_FILE = "fixed_configurations.csv", "fixed_configuration.json"


def configuration_table(runs: pd.DataFrame) -> pd.DataFrame:
    """One row for each configuration, the best first: its options, mean rendering F1 over clips, and that of each clip.

    Raises:
        UserError: the runs have fewer than two configurations, or no configuration was played on all pairs.
    """
    swept = hindsight.configurations(runs)
    if swept.empty:
        raise UserError("there are not two fixed configurations to choose from: sweep them with experiment=fixed")
    table = swept.pivot_table(index=["clip", "trace"], columns="policy", values="rendering_f1", aggfunc="last")
    of_clips = hindsight.means_by_clip(table)
    means = of_clips.mean(skipna=False).dropna()
    if means.empty:
        raise UserError("no configuration was played on all pairs of clip and trace: finish the sweep first")
    options = swept.drop_duplicates("policy").set_index("policy")[list(OPTIONS)].astype(int)
    found = options.join(means.rename("rendering_f1"), how="inner").join(of_clips.T)
    return found.sort_values(["rendering_f1", *OPTIONS], ascending=[False, True, True, True]).reset_index(drop=True)


def choose(sweep: Path) -> dict[str, object]:
    """Write the table and the choice into the sweep's folder; returns the choice.

    Raises:
        UserError: there is no such sweep, its runs played another part than `profile`, or nothing can be chosen.
    """
    runs = read_study([sweep]).runs
    configurations = [read_run_config(Path(run_dir)) for run_dir in runs["run_dir"]]
    if parts := sorted({config.eval.part for config in configurations} - {"profile"}):
        raise UserError(
            f"sweep '{sweep}' played the {' and '.join(parts)} parts of its clips, which policies are compared on: "
            "choose from a sweep with eval.part=profile"
        )
    options = pd.DataFrame([{name: config.policy.get(name) for name in OPTIONS} for config in configurations])
    table = configuration_table(runs.reset_index(drop=True).join(options))
    folder = sweep_folder(sweep)
    best = table.iloc[0]
    choice: dict[str, object] = {name: int(best[name]) for name in OPTIONS}
    choice |= {"rendering_f1": round(float(best["rendering_f1"]), 4), "configurations": len(table)}
    choice |= {"clips": sorted(runs["clip"].unique()), "traces": sorted(runs["trace"].unique())}
    with atomic_path(folder / TABLE_FILE) as temporary:
        table.to_csv(temporary, index=False, float_format="%.4f")
    with atomic_path(folder / CHOICE_FILE) as temporary:
        temporary.write_text(json.dumps(choice, indent=1) + "\n")
    return choice | {"table": str(folder / TABLE_FILE)}


def command_line() -> CommandLine:
    """The options of this job."""
    parser = job_parser(
        "evaluation.fixed_configuration",
        "Choose the configuration of policy=fixed with the highest mean rendering F1 over the clips of a sweep.",
        {
            "runs/sweeps/fixed": "a sweep of experiment=fixed eval.part=profile",
        },
        "Every clip counts alike. The choice is printed as JSON and written to the sweep's folder.",
    )
    parser.add_argument("sweep", type=Path, metavar="SWEEP", help="folder of the sweep, or its name below runs/sweeps")
    return parser


def print_choice(options: argparse.Namespace) -> None:
    """Choose from the sweep that the command line names, and print the choice as JSON."""
    print(json.dumps(choose(options.sweep), indent=2))


main = option_job(command_line, print_choice)


if __name__ == "__main__":
    sys.exit(main())
