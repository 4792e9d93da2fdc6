"""Score a run of a recorded camera: `python -m evaluation.score RUN`, with references made of the recording."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from vitmalis.client.session import SESSION_FILE, ClientSession, read_session, write_session
from vitmalis.command_line import CommandLine
from vitmalis.errors import UserError
from vitmalis.metrics import summarise
from vitmalis.records import FRAMES_FILE, read_info
from vitmalis.types import Detections
from vitmalis.video.recording import RECORDING_FILE
from vitmalis.video.spec import VideoSpec
from vitmalis_jobs.common.cli import job_parser, option_job
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.machine_load import BUSY
from vitmalis_jobs.evaluation.finished_run import (
    RUN_HELP,
    ReferenceChoice,
    add_lookup_options,
    find_run,
    mlflow_run_of,
    read_run_config,
    run_references,
)
from vitmalis_jobs.run.directory import RunDirectory, read_summary
from vitmalis_jobs.run.execute import RunResult
from vitmalis_jobs.run.prepare import prepare_model
from vitmalis_jobs.run.publish import finish, publish
from vitmalis_jobs.run.record_checks import check_records
from vitmalis_jobs.run.records import RunRecords, read_records
from vitmalis_jobs.run.resolve import resolve_run
from vitmalis_jobs.run.spec import PreparedRun


def score(directory: Path, tracking_uri: str, choice: ReferenceChoice, terminal: Terminal) -> dict[str, float]:
    """Make the references of a run's recording and add F1, video and page to the run; returns its metrics by name.

    Args:
        directory: the run's folder.
        tracking_uri: MLflow store that has the run.
        choice: whether a model that needs trust is used.
        terminal: shows progress and results.

    Raises:
        UserError: the run was not recorded or not played to its end, its files do not fit together, or MLflow has no
            such run.
    """
    session, clip = _recorded_session(directory)
    records, config = read_records(directory), read_run_config(directory)
    check_records(directory, records, clip, session.geometry)
    mlflow_run = mlflow_run_of(directory, tracking_uri)
    if mlflow_run is None:
        raise UserError(f"'{directory}': the MLflow store {tracking_uri} does not have this run (--tracking-uri)")
    with terminal.progress("references of the recording") as step:
        references = run_references(clip, config, choice, range(clip.frames), step)
    if references is None:
        raise UserError(f"'{directory}': random weights find nothing that means anything, there is nothing to score")
    summary = read_summary(directory) or {}
    run = _prepared(directory, session, clip, summary)
    write_session(msgspec.structs.replace(session, video=clip), directory / SESSION_FILE)  # from now on it can be seen
    result = RunResult(records, references, _other_metrics(run, records, references, summary), summary.get(BUSY, []))
    run_directory = RunDirectory(directory, overrides=tuple(summary.get("overrides", ())))
    metrics = publish(run, result, run_directory, mlflow_run, terminal)
    finish(run, metrics, run_directory, mlflow_run, None, "", result.busy)
    terminal.result(metrics, {"records": str(directory)})
    return metrics


def _recorded_session(directory: Path) -> tuple[ClientSession, VideoSpec]:
    """The session of a run, and its camera's recording as a clip; raises `UserError` where there is no whole one."""
    session, recording = read_session(directory / SESSION_FILE), directory / RECORDING_FILE
    if not recording.is_file():
        raise UserError(f"'{directory}' has no {RECORDING_FILE}: output.record=true with video=camera records one")
    ended = read_info(directory / FRAMES_FILE).ended
    if ended != "complete":
        raise UserError(f"'{directory}': the run ended early ({ended}): play it again")
    return session, msgspec.structs.replace(session.video, path=str(recording.absolute()), live=False)


def _prepared(directory: Path, session: ClientSession, clip: VideoSpec, summary: dict[str, object]) -> PreparedRun:
    spec = resolve_run(read_run_config(directory))
    stand_ins = summary.get("stand_ins")
    stand_in = stand_ins.get("policy", "") if isinstance(stand_ins, dict) else ""
    return PreparedRun(spec, clip, prepare_model(spec.model), session.policy_options, str(stand_in))


def _other_metrics(
    run: PreparedRun, records: RunRecords, references: Sequence[Detections], summary: dict[str, object]
) -> dict[str, float]:
    """The metrics that were measured while the run played and are not in its records."""
    before = summary.get("metrics")
    computed = summarise(records.frames, records.offloads, references, run.spec.rule, run.clip.size)
    return {key: value for key, value in before.items() if key not in computed} if isinstance(before, dict) else {}


def command_line() -> CommandLine:
    """The options of this job."""
    parser = job_parser(
        "evaluation.score",
        "Score a run of a camera: make references of its recording, add F1, video and page to the run.",
        {
            "runs/evaluations/2026-03-01/12-00-00": "the folder of a run with video=camera output.record=true",
        },
    )
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    add_lookup_options(parser, needs_references=True)
    return parser


def score_run(options: argparse.Namespace) -> None:
    """Score the run that the command line names."""
    directory = find_run(options.run, options.tracking_uri)
    score(directory, options.tracking_uri, ReferenceChoice.of(options), Terminal())


main = option_job(command_line, score_run)


if __name__ == "__main__":
    sys.exit(main())
