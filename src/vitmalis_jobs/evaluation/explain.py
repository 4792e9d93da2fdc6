"""Plot why an offload was configured as it was, and its outcome: `python -m evaluation.explain RUN --offload K`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vitmalis.client.session import SESSION_FILE, read_session
from vitmalis.command_line import CommandLine
from vitmalis.errors import UserError
from vitmalis.metrics import MatchRule
from vitmalis.records import DecisionRecord
from vitmalis.types import RgbImage
from vitmalis.video.spec import VideoSpec, open_video
from vitmalis_jobs.common.cli import job_parser, option_job
from vitmalis_jobs.evaluation.finished_run import (
    CACHED_OR_COMPUTED,
    RUN_HELP,
    ReferenceChoice,
    add_artifact,
    add_lookup_options,
    find_run,
    part_of,
    read_run_config,
    run_references,
)
from vitmalis_jobs.run.figures.decision_plot import draw_decision, draw_regions, most_varied
from vitmalis_jobs.run.figures.panels import save_png
from vitmalis_jobs.run.record_checks import check_records
from vitmalis_jobs.run.records import RunRecords, read_records
from vitmalis_jobs.run.result_files import explanation_file


def command_line() -> CommandLine:
    """The options of this job."""
    parser = job_parser(
        "evaluation.explain",
        "Plot why an offload of a run was configured as it was, what came of it, and the regions that were sent.",
        {
            "runs/evaluations/2026-03-01/12-00-00": "an offload with many region types",
            "RUN --offload 7 --no-reference": "offload 7, without its actual F1",
        },
    )
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    parser.add_argument("--offload", type=int, help="number of the offload (default: one with many region types)")
    add_lookup_options(parser)
    return parser


def explain(
    run: str, offload_id: int | None, tracking_uri: str, reference: ReferenceChoice = CACHED_OR_COMPUTED
) -> Path:
    """Draw a decision of a run into the run's folder and, where the run is known to MLflow, its artifacts.

    Args:
        run: its folder, or its MLflow run id.
        offload_id: number of the offload; None for one with many region types.
        tracking_uri: MLflow store, whatever the run's own folder says.
        reference: whether the frame's reference is computed.

    Returns:
        File of the plot.

    Raises:
        UserError: there is no such run or offload, the offload's decision was not explained, or the folder's files do
            not fit together.
    """
    directory = find_run(run, tracking_uri)
    records = read_records(directory)
    decision = _decision(records, offload_id)
    path = directory / explanation_file(decision.offload_id)
    _draw(directory, records, decision, path, reference=reference)
    add_artifact(directory, path, tracking_uri)
    return path


def draw_typical(directory: Path, regions: Path, decision: Path) -> None:
    """Draw one decision of a run, and the regions that it saw, into two files; no model is needed.

    Raises:
        UserError: the run's decisions were not explained, or its clip is gone.
    """
    records = read_records(directory)
    shown = _decision(records, None)
    _draw(directory, records, shown, decision, regions, reference=ReferenceChoice(wanted=False))


def _draw(
    directory: Path,
    records: RunRecords,
    shown: DecisionRecord,
    decision: Path,
    regions: Path | None = None,
    *,
    reference: ReferenceChoice,
) -> None:
    session, config = read_session(directory / SESSION_FILE), read_run_config(directory)
    if session.video.live:
        raise UserError(f"'{directory}': video '{session.video.name}' was live, so that its frames are gone")
    check_records(directory, records, session.video, session.geometry)
    grid = session.geometry.grid(session.video.width, session.video.height)
    offload = next(o for o in records.offloads if o.offload_id == shown.offload_id)
    boxes = run_references(session.video, config, reference, range(shown.frame_index, shown.frame_index + 1))
    rule = MatchRule(config.eval.iou_threshold, config.eval.score_threshold)
    image = frame_image(session.video, shown.frame_index)
    draw_decision(decision, image, grid, shown, offload, boxes[0] if boxes else None, rule)
    if regions is not None:
        save_png(regions, draw_regions(image, grid, shown, offload))


def frame_image(clip: VideoSpec, frame_index: int) -> RgbImage:
    """A frame of the played part, RGB uint8 (H, W, 3)."""
    return next(iter(open_video(part_of(clip, frame_index, 1))))


def _decision(records: RunRecords, offload_id: int | None) -> DecisionRecord:
    if not records.decisions:
        raise UserError("this run's policy does not explain its decisions: take a run of vitmalis, freshness or bandit")
    by_id = {decision.offload_id: decision for decision in records.decisions}
    if offload_id is None:
        return most_varied(records.decisions, records.offloads) or records.decisions[0]
    if offload_id not in by_id:
        raise UserError(f"--offload {offload_id}: this run has offloads {min(by_id)} to {max(by_id)}")
    return by_id[offload_id]


def print_plots(options: argparse.Namespace) -> None:
    """Draw the offload that the command line names, and print where the plots are."""
    print(explain(options.run, options.offload, options.tracking_uri, ReferenceChoice.of(options)))


main = option_job(command_line, print_plots)


if __name__ == "__main__":
    sys.exit(main())
