"""The last step of a run: its records, plots and video become MLflow artifacts, and the run is finished."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from vitmalis.matching import MatchRule
from vitmalis.metrics import f1_over_time, summarise
from vitmalis.records import FrameRecord
from vitmalis.types import Detections, RgbImage
from vitmalis.video.spec import VideoSpec, open_video
from vitmalis_jobs.common.console import Step, Terminal
from vitmalis_jobs.common.machine_load import BUSY
from vitmalis_jobs.common.mlflow_run import Run
from vitmalis_jobs.common.signals import deferred_signals
from vitmalis_jobs.run.describe import describe, played_trace, stand_ins
from vitmalis_jobs.run.devices import combined, write_devices
from vitmalis_jobs.run.directory import RunDirectory
from vitmalis_jobs.run.execute import RunResult
from vitmalis_jobs.run.figures import plots
from vitmalis_jobs.run.figures.comparison_video import ComparisonVideo
from vitmalis_jobs.run.figures.decision_plot import draw_decision, draw_regions, most_varied
from vitmalis_jobs.run.figures.panels import save_png
from vitmalis_jobs.run.identity import identity_metrics
from vitmalis_jobs.run.mlflow_page import input_files, log_offload_curves
from vitmalis_jobs.run.page.build import PlayedRun, run_document
from vitmalis_jobs.run.page.files import PAGE_FILE, write_run_page
from vitmalis_jobs.run.records import RunRecords, record_files, records_sha256
from vitmalis_jobs.run.result_files import DECISION_FILE, F1_FILE, LATENCY_FILE, REGIONS_FILE, STILL_FILE, VIDEO_FILE
from vitmalis_jobs.run.run_index import IndexEntry, RunIndex
from vitmalis_jobs.run.spec import PreparedRun
from vitmalis_jobs.run.streaming_ap import streaming_ap


def publish(
    run: PreparedRun, result: RunResult, directory: RunDirectory, mlflow_run: Run, terminal: Terminal
) -> dict[str, float]:
    """Log the metrics, records, plots and video of a run; returns the metrics by name."""
    records, references = result.records, result.references
    each = [_metrics(run, records, references)]
    each += [_metrics(other.device.run, other.records, other.device.references) for other in result.others]
    metrics = combined(each) | result.metrics
    if result.busy:
        metrics[BUSY] = 1.0
    mlflow_run.log_metrics(metrics)
    log_offload_curves(mlflow_run, records.offloads)
    files = [*record_files(directory.path), *input_files(directory.path)]
    if result.others:
        files.append(write_devices(run, [other.device for other in result.others], each, directory.path))
    if references is not None:
        if "rendering_f1" not in metrics:
            terminal.warn(f"the references of {run.clip.name} hold no box, so that F1 says nothing")
        time_s, f1 = f1_over_time(records.frames, references, 1.0, run.spec.rule)
        defined = np.isfinite(f1)
        mlflow_run.log_curve("rendering_f1_per_s", [round(t) for t in time_s[defined]], f1[defined].tolist())
        files += _video(run, records, references, directory.path, terminal)
    if run.config.output.figures:
        files += _plots(run, records, references, directory.path)
        files += _decision(run, records, references, directory.path)
    if run.config.output.page:
        files += _page(run, result, metrics, directory, terminal)
    for path in files:
        mlflow_run.log_artifact(path)
    return metrics


def _metrics(run: PreparedRun, records: RunRecords, references: Sequence[Detections] | None) -> dict[str, float]:
    """The metrics of one device, by name."""
    metrics = summarise(records.frames, records.offloads, references, run.spec.rule, run.clip.size)
    if references is None:
        return metrics
    return metrics | displayed_metrics(records.frames, references, run.spec.rule)


def displayed_metrics(
    frames: Sequence[FrameRecord], references: Sequence[Detections], rule: MatchRule
) -> dict[str, float]:
    """Streaming AP and identities of the boxes on the screen, by name; see these modules."""
    shown = [frame.detections for frame in frames]
    truth = [references[frame.frame_index].above(rule.score_threshold) for frame in frames]
    return streaming_ap(shown, truth) | identity_metrics(shown, truth, rule)


def finish(
    run: PreparedRun,
    metrics: dict[str, float],
    directory: RunDirectory,
    mlflow_run: Run,
    index: RunIndex | None,
    fingerprint: str,
    busy: Sequence[str] = (),
) -> None:
    """Finish a run whose results are published: in the index, in MLflow and in its folder.

    The index entry comes first and decides: `RunIndex.find` completes a run that is killed after it.

    Args:
        index: where later sweeps find the run; None for a run that no other should take over.
        fingerprint: digest of the run's fingerprint.
        busy: why the machine was too busy for the run, as phrases.
    """
    facts: dict[str, Any] = {"run_id": mlflow_run.run_id, "fingerprint": fingerprint, BUSY: list(busy)}
    facts |= {"stand_ins": stand_ins(run), "trace": played_trace(run.spec)}
    with deferred_signals():
        if index is not None:
            index.record(
                IndexEntry(
                    fingerprint=fingerprint,
                    run_id=mlflow_run.run_id,
                    store=mlflow_run.store_name,
                    records=records_sha256(directory.path),
                    summary=directory.summary("FINISHED", metrics, **facts),
                )
            )
        mlflow_run.finish()
        directory.write_summary("FINISHED", metrics, **facts)


def _plots(
    run: PreparedRun, records: RunRecords, references: Sequence[Detections] | None, directory: Path
) -> list[Path]:
    title = f"{run.clip.name}, {run.spec.trace_name}, {run.config.policy_name}"
    latency, f1 = directory / LATENCY_FILE, directory / F1_FILE
    plots.latency_breakdown(latency, records.offloads, f"{title}: where the latency goes")
    if references is None:
        return [latency]
    plots.rendering_f1(f1, records.frames, references, f"{title}: what the user saw", run.spec.rule)
    return [latency, f1]


def _decision(
    run: PreparedRun, records: RunRecords, references: Sequence[Detections] | None, directory: Path
) -> list[Path]:
    """Plots of one decision, where the policy explains its decisions; a live source cannot be shown again."""
    shown = most_varied(records.decisions, records.offloads)
    if shown is None or run.clip.live:
        return []
    grid = run.spec.model.geometry.grid(run.clip.width, run.clip.height)
    offload = next(offload for offload in records.offloads if offload.offload_id == shown.offload_id)
    image = next(_images(run.clip, shown.frame_index, 1))
    reference = None if references is None else references[shown.frame_index]
    regions, decision = directory / REGIONS_FILE, directory / DECISION_FILE
    save_png(regions, draw_regions(image, grid, shown, offload))
    draw_decision(decision, image, grid, shown, offload, reference, run.spec.rule)
    return [regions, decision]


def _video(
    run: PreparedRun, records: RunRecords, references: Sequence[Detections], directory: Path, terminal: Terminal
) -> list[Path]:
    """The video of rendered boxes next to references, and a still of a typical frame, as far as they are wanted."""
    options, files = run.config.output, []
    frames = min(len(records.frames), round(options.video_seconds * run.clip.fps))
    if not (frames or options.figures):
        return []
    video = ComparisonVideo(records.frames, records.offloads, references, run.clip.fps, run.spec.rule)
    with terminal.progress("video of the rendered boxes" if frames else "still of the rendered boxes") as step:
        if options.figures:
            still = video.typical()
            files.append(directory / STILL_FILE)
            save_png(files[-1], video.draw(still, next(_images(run.clip, still, 1))))
        if frames:
            files.append(directory / VIDEO_FILE)
            video.write(files[-1], _counted(_images(run.clip, 0, frames), frames, step))
    return files


def _page(
    run: PreparedRun, result: RunResult, metrics: dict[str, float], directory: RunDirectory, terminal: Terminal
) -> list[Path]:
    """The page of the run, with its video; of a live source without."""
    played = PlayedRun(
        session=run.session("", directory.path),
        records=result.records,
        references=result.references,
        rule=run.spec.rule,
        trace=run.spec.trace if run.spec.emulated else None,
        metrics=metrics,
        stand_ins=stand_ins(run),
        facts=describe(run),
    )
    frames = len(result.records.frames)
    with terminal.progress("page of the run") as step:
        images = None if run.clip.live else _counted(_images(run.clip, 0, frames), frames, step)
        return write_run_page(directory.path / PAGE_FILE, run_document(played), images)


def _images(clip: VideoSpec, first: int, count: int) -> Iterator[RgbImage]:
    """Images of the played part, from its frame `first`."""
    return open_video(msgspec.structs.replace(clip, start_frame=clip.start_frame + first, frames=count))


def _counted(images: Iterator[RgbImage], total: int, step: Step) -> Iterator[RgbImage]:
    for done, image in enumerate(images, 1):
        yield image
        step(done, total)
