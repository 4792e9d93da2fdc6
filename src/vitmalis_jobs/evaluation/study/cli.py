"""The command `vitmalis report SWEEP`: compare the runs of a study with each other and with the paper."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from vitmalis.command_line import CommandLine
from vitmalis.errors import UserError
from vitmalis.paths import atomic_path
from vitmalis_jobs.common.cli import job_parser, option_job
from vitmalis_jobs.common.config import mlflow_options
from vitmalis_jobs.evaluation.study import (
    devices,
    equivalence,
    external_results,
    figures,
    geometry,
    hindsight,
    sensitivity,
    subsets,
    tables,
)
from vitmalis_jobs.evaluation.study.labels import counted, label
from vitmalis_jobs.evaluation.study.lead import leading_sentence
from vitmalis_jobs.evaluation.study.offload_table import offload_table
from vitmalis_jobs.evaluation.study.page import Section, write_page
from vitmalis_jobs.evaluation.study.pairs import plot_document
from vitmalis_jobs.evaluation.study.runs import Study, ordered, read_study, sweep_folder
from vitmalis_jobs.evaluation.study.statistics import by_pair, incomplete_pairs, results_by_pair, undefined_pairs

_HINDSIGHT = (
    "Of all fixed configurations that were swept, the one with the highest rendering F1 of each pair, and with the "
    "highest mean over the pairs of the clip and of the study (each clip counts alike). They are chosen by the F1 that "
    "they are shown with: bounds on what a fixed choice could reach, no policies."
)

_DIFFERENCES = (
    "Mean over the same pairs of clip and trace; 95 % intervals by bootstrap (BCa, seeded) over pairs, and over clips, "
    "as pairs of one clip share its frames."
)

_OPTIONS = (
    "Rendering F1 of each variant of a policy less that of its first variant in the study, on the same pairs. With "
    "policy.inject, true values replace estimates: what an estimate's error costs is what its true value gains."
)

_EQUIVALENCE = (
    f"Two one-sided tests of the same differences: equivalent within {equivalence.BOUND:g} where the 90 % interval of "
    "the mean (Student's t) lies inside that bound. Undecided ones say how many pairs, or clips, would decide with a "
    "power of 80 % at this mean and spread. Pairs of one clip share its frames, so the test over clips is the one that "
    "speaks for other clips."
)

_OTHER_SCORES = (
    "Of the boxes on the screen at each frame: COCO's AP (sAP), and IDF1, identity switches and MOTA as of trackers, "
    "on identities that are found by overlap (docs/reports.md)."
)

_CONSTANT_CODEC = (
    "Encoding and decoding times are in the main table. There is no figure, as they hardly vary: the virtual clock "
    "took them from a testbed that has one time for each kind of frame (docs/virtual_clock.md)."
)
_REASONS = "Share of the decisions with each reason (docs/policies.md says what they mean), mean over runs."

_ESTIMATES = (
    "How far they are from what came of the offloads, mean over runs: the median error of a run for size and latency, "
    "for F1 the mean estimate less the actual inference F1, each frame weighted by its boxes."
)


def command_line() -> CommandLine:
    """The options of this job."""
    parser = job_parser(
        "evaluation.report",
        "Compare the runs of one or more sweeps: figures (PNG, SVG), tables (CSV) and one HTML page.",
        {
            "quick": "the sweep runs/sweeps/quick",
            "walking driving --clock virtual --output report": "two sweeps together, runs on the virtual clock alone",
        },
    )
    parser.add_argument(
        "sweep", type=Path, nargs="+", metavar="SWEEP", help="folder of a sweep, or its name below runs/sweeps"
    )
    parser.add_argument("--output", type=Path, help="folder for the report (default: report/ in the first sweep)")
    parser.add_argument("--clock", choices=("realtime", "virtual"), help="use only runs of this clock (default: both)")
    parser.add_argument("--no-mlflow", action="store_true", help="do not log the report to MLflow")
    uri = mlflow_options("reports").tracking_uri
    parser.add_argument("--tracking-uri", default=uri, help="MLflow store, or address of an MLflow server")
    return parser


def _report(options: argparse.Namespace) -> None:
    study = read_study(options.sweep, options.clock)
    folder = options.output or sweep_folder(options.sweep[0]) / "report"
    files = write_report(study, folder, ", ".join(sweep.name for sweep in options.sweep))
    if not options.no_mlflow:
        _log(files, options.tracking_uri, ", ".join(map(str, options.sweep)))
    result = {"report": str(folder / "report.html"), "runs": len(study.runs), "statuses": dict(study.statuses)}
    result["busy_runs"] = int(tables.busy_runs(study.runs).sum())
    print(json.dumps(result | {"order": tables.describe_order(study.runs, study.policies)}, indent=2))


def write_report(study: Study, folder: Path, name: str) -> list[Path]:
    """Write the page, its figures and its tables into a folder; returns the files.

    Raises:
        UserError: there is no pair of clip and trace that all policies have played.
    """
    runs = hindsight.with_hindsight(study.runs)
    policies = ordered(runs["policy"].unique())
    if by_pair(runs, "rendering_f1").empty:
        raise UserError(f"study {name}: no pair of clip and trace has a rendering F1 of all of {', '.join(policies)}")
    names = [label(marked) for marked in tables.marked(runs, policies).values()]
    sections = [
        *_captioned(_sections(runs, policies, names, folder), tables.busy_caption(runs)),
        *_section("Best fixed configurations in hindsight", _HINDSIGHT, hindsight.table(study.runs)),
        *_captioned(sensitivity.sections(study, folder), tables.busy_caption(study.varied)),
        *external_results.sections(runs, folder),
        Section("Runs that are missing", study.problems),
    ]
    shown = [section for section in sections if section.words or section.has_results]
    page, plots = folder / "report.html", plot_document(runs, policies, names, folder)
    write_page(page, f"Study {name}", leading_sentence(runs, policies), _facts(study, runs), shown, plots)
    return [page, *_write_tables(folder, study.runs, shown), *_figures(folder, shown)]


def _sections(runs: pd.DataFrame, policies: Sequence[str], shown: Sequence[str], folder: Path) -> list[Section]:
    """The sections that the runs' records fill; some are empty where a policy is missing.

    Args:
        runs, policies: of the study.
        shown: names of the policies in figures.
        folder: of the report.
    """
    names = dict(zip(policies, shown, strict=True))
    f1 = by_pair(runs, "rendering_f1").rename(columns=names)
    inference = results_by_pair(runs, "inference_f1").rename(columns=names)
    offloads = offload_table(runs).replace({"policy": names})
    return [
        Section("Policies", [tables.describe_order(runs, policies, label)], tables.overview(runs, policies)),
        Section("Every run", ["Each point is a run; the runs of one clip over one trace are a pair."], plot="policies"),
        Section("Rendering F1 over latency", ["The same runs over their median end-to-end latency."], plot="latency"),
        *geometry.section(runs, folder),
        *devices.section(runs, folder),
        Section("Rendering and inference F1 (Fig. 8, 12)", image=figures.overall(folder, f1, inference, shown)),
        *_section("Paired differences of rendering F1", _DIFFERENCES, tables.differences(runs, policies)),
        *subsets.sections(runs, policies),
        *_section("What a policy's options change", _OPTIONS, tables.option_differences(runs, policies)),
        *_section(
            "Different or equivalent",
            _EQUIVALENCE,
            equivalence.table(runs, [*tables.compared(policies), *tables.compared_variants(runs)]),
        ),
        *_section("Streaming AP and identities", _OTHER_SCORES, tables.other_scores(runs, policies)),
        Section("Delays (Fig. 9)", image=figures.delays(folder, offloads, shown)),
        Section("Time saved by ViTMAlis compared with TrackB2B", table=tables.savings(runs, policies)),
        _codec(folder, offloads, shown),
        Section("Overhead (Fig. 11)", image=figures.overhead(folder, offloads)),
        *_section("Why configurations were chosen", _REASONS, tables.reasons(runs, policies)),
        *_section("Errors of estimates", _ESTIMATES, tables.estimates(runs, policies)),
        Section("By clip and by trace", image=figures.breakdown(folder, f1, shown)),
        *(
            Section(
                f"Share of the gap to {label(ceiling)} that is closed", table=tables.gap_table(runs, policies, ceiling)
            )
            for ceiling in ("oracle", hindsight.BEST_OF_PAIR)
        ),
    ]


def _codec(folder: Path, offloads: pd.DataFrame, shown: Sequence[str]) -> Section:
    """The section of Fig. 10; a sentence where there is nothing to draw."""
    image = figures.codec(folder, offloads, shown)
    return Section("Codec (Fig. 10)", [] if image else [_CONSTANT_CODEC], image=image)


def _section(title: str, words: str, table: pd.DataFrame) -> list[Section]:
    """The section of a table; none for an empty one."""
    return [] if table.empty else [Section(title, [words], table)]


def _captioned(sections: Sequence[Section], caption: Sequence[str]) -> list[Section]:
    """The sections with a caption below the words of each that holds a table, an image or a plot."""
    return [
        replace(section, words=[*section.words, *caption]) if section.has_results else section for section in sections
    ]


def _facts(study: Study, compared: pd.DataFrame) -> list[str]:
    """What a reader must know before any number; `compared` are the runs whose policies are compared."""
    runs = study.runs
    counts = ", ".join(f"{count} {status.lower()}" for status, count in sorted(study.statuses.items()))
    facts = [
        f"{counted(len(runs), 'run')} ({counts}); clips {', '.join(sorted(runs['clip'].unique()))}; "
        f"{counted(runs['trace'].nunique(), 'trace')}; clock {', '.join(sorted(runs['clock'].unique()))}",
    ]
    facts += tables.busy_note(runs)
    left_out = incomplete_pairs(compared)
    if left_out:
        facts.append(f"left out of comparisons: {counted(left_out, 'pair')} of clip and trace without all policies")
    if undefined := undefined_pairs(runs):
        facts.append(f"left out of comparisons: {counted(undefined, 'pair')} without F1, as their clips show nothing")
    return [*facts, *_costs(runs), *(f"stand-in {what}" for what in study.stand_ins)]


def _costs(runs: pd.DataFrame) -> list[str]:
    """What runs on the virtual clock cost; runs in real time have no such metrics."""
    sums = runs.reindex(columns=["cache_hits", "cache_misses", "cpu_s"]).sum()
    inferences = int(sums["cache_hits"] + sums["cache_misses"])
    costs = [f"{inferences} inferences, {sums['cache_hits'] / inferences:.0%} from the cache"] if inferences else []
    if sums["cpu_s"]:
        minutes, seconds = divmod(round(sums["cpu_s"]), 60)
        taken = f"{minutes} min" if minutes else f"{seconds} s"
        costs.append(f"{taken} of processor time, with references, without starting processes")
    return costs


def _figures(folder: Path, sections: Sequence[Section]) -> list[Path]:
    """The figures of this report in its folder, which may hold others of an earlier one, as PNG and SVG."""
    images = [section.image for section in sections if section.image and section.image.parent == folder]
    return [path for image in images for path in (image, image.with_suffix(".svg")) if path.is_file()]


def _write_tables(folder: Path, runs: pd.DataFrame, sections: Sequence[Section]) -> list[Path]:
    """Write every run with every metric, and each table of the page, as CSV; returns the files."""
    named = {"runs": runs} | {
        section.title.split(" (")[0]: section.table for section in sections if not section.table.empty
    }
    paths = []
    for name, table in named.items():
        path = folder / f"{'_'.join(re.findall('[a-z0-9]+', name.lower()))}.csv"
        with atomic_path(path) as temporary:
            table.to_csv(temporary, index=False)
        paths.append(path)
    return paths


def _log(paths: Sequence[Path], tracking_uri: str, sweeps: str) -> None:
    from vitmalis_jobs.common.mlflow_store import Store

    options = mlflow_options("reports")
    store = Store(tracking_uri, options.experiment, Path(options.artifact_dir))
    with store.run(f"report of {sweeps}", {"sweeps": sweeps}) as run:
        for path in paths:
            run.log_artifact(path)


main = option_job(command_line, _report)
