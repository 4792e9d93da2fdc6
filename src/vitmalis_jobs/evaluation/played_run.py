"""What a finished run played, read from its folder: for its page, and for exports."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vitmalis.client.session import SESSION_FILE, read_session
from vitmalis.metrics import MatchRule, summarise
from vitmalis.network.traces import Trace
from vitmalis.types import Detections
from vitmalis.video.spec import VideoSpec
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.evaluation.finished_run import (
    CACHED_OR_COMPUTED,
    ReferenceChoice,
    read_run_config,
    run_references,
)
from vitmalis_jobs.run.config import EvaluationConfig
from vitmalis_jobs.run.describe import facts_of
from vitmalis_jobs.run.directory import read_summary
from vitmalis_jobs.run.page.build import PlayedRun
from vitmalis_jobs.run.record_checks import check_records
from vitmalis_jobs.run.records import read_records
from vitmalis_jobs.run.trace_file import read_trace


def played_run(directory: Path, choice: ReferenceChoice = CACHED_OR_COMPUTED) -> PlayedRun:
    """Read the run in a folder, with its references as far as they are wanted; shows the progress on standard error.

    Raises:
        UserError: the folder holds no run, its files do not fit together, or its clip is gone.
    """
    records, session = read_records(directory), read_session(directory / SESSION_FILE)
    config = read_run_config(directory)
    check_records(directory, records, session.video, session.geometry)
    clip = session.video
    references = None if clip.live else _references(clip, config, choice, records.seen)
    rule = MatchRule(config.eval.iou_threshold, config.eval.score_threshold)
    trace, summary = _trace(directory, session.trace), read_summary(directory) or {}
    stand_ins = summary.get("stand_ins", {})
    computed = summarise(records.frames, records.offloads, references, rule, clip.size)
    return PlayedRun(
        session=session,
        records=records,
        references=references,
        rule=rule,
        trace=trace,
        metrics=_published(summary) or computed,
        stand_ins={str(part): str(what) for part, what in dict(stand_ins).items()},
        facts=facts_of(config, clip, trace),
    )


def _trace(directory: Path, name: str) -> Trace | None:
    """The trace that the run played, under its name."""
    trace = read_trace(directory)
    return None if trace is None else replace(trace, name=name)


def _published(summary: dict[str, object]) -> dict[str, float]:
    """The metrics that a finished run has published, of several devices their means; empty for any other."""
    metrics = summary.get("metrics")
    if summary.get("status") != "FINISHED" or not isinstance(metrics, dict):
        return {}
    return {str(name): float(value) for name, value in metrics.items() if isinstance(value, int | float)}


def _references(
    clip: VideoSpec, config: EvaluationConfig, choice: ReferenceChoice, frames: range
) -> list[Detections] | None:
    if not choice.wanted:
        return None
    with Terminal.on_stderr().progress("references of the run") as step:  # minutes where the cache has none
        return run_references(clip, config, choice, frames, step)
