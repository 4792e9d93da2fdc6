"""Sample sizes and accuracies of offloads, for the estimators: `python -m profiling.samples`.

Runs the configuration space over sampled frames of every clip and stores, for each, what a device would know, the
payload and the F1: `runs/profiling/samples/<model_id>/<clip>.parquet`. An interrupted job continues where it stopped.
One JSON object goes to standard output and to `runs/profiling/samples.json`, progress to standard error.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

import msgspec
from omegaconf import DictConfig

from vitmalis.detector import BaseDetector
from vitmalis.errors import UserError
from vitmalis.names import check_path_part
from vitmalis.paths import cache_dir
from vitmalis.video.clips import Part, resolve_clip
from vitmalis.video.spec import VideoSpec
from vitmalis_jobs.common.checks import check_trained, check_writable
from vitmalis_jobs.common.cli import hydra_job
from vitmalis_jobs.common.clips import available_clips
from vitmalis_jobs.common.config import checked
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.job_output import emit
from vitmalis_jobs.common.mlflow_store import Store
from vitmalis_jobs.common.model_arguments import model_facts
from vitmalis_jobs.profiling.samples.config import SamplesConfig
from vitmalis_jobs.profiling.samples.moments import sampled_frames
from vitmalis_jobs.profiling.samples.storage import SampleFolder, summary
from vitmalis_jobs.profiling.samples.worker import Chunk, run_chunk, start_worker

CHUNK_FRAMES = 3
"""Sampled frames of a chunk: a part is played once for so many, then it is another clip's turn."""

ClipPart = tuple[VideoSpec, str, Part]
"""A part of a clip: its frames, the clip's name, and which part it is."""


def find_clips(config: SamplesConfig, terminal: Terminal) -> tuple[list[ClipPart], dict[str, str]]:
    """Resolve the parts to sample, and say why clips are left out.

    Raises:
        UserError: `only` names a clip that is not configured, or no clip is available.
    """
    for name in config.clips:
        check_path_part("clips", name)
    if unknown := sorted(set(config.only or ()) - set(config.clips)):
        raise UserError(f"only={unknown}: choose among {', '.join(config.clips)}")
    limits: dict[str, Any] = {"max_width": config.model.max_width, "max_height": config.model.max_height}
    parts = [part for part, count in config.frames_per_clip.items() if count]

    def resolve(name: str) -> list[ClipPart]:
        options = config.clips[name] | limits | {"cache_dir": cache_dir(), "progress": terminal.step}
        return [(resolve_clip(name, part=part, **options), name, part) for part in parts]

    found, left_out = available_clips(config.only or config.clips, resolve)
    for name, reason in left_out.items():
        terminal.warn(f"{name} is left out: {reason}")
    return [part for of_clip in found.values() for part in of_clip], left_out


def make_chunks(parts: Sequence[ClipPart], config: SamplesConfig, folder: SampleFolder) -> Iterator[Chunk]:
    """Chunks of the frames that are not sampled yet; clips take turns, so that an early end leaves some of each."""
    waiting = []
    for spec, clip, part in parts:
        frames = sampled_frames(spec, config.frames_per_clip[part], config.warmup_s)
        missing = [frame for frame in frames if not folder.frame_path(clip, part, frame).exists()]
        waiting.append((spec, clip, part, missing))
    for start in range(0, max(config.frames_per_clip.values()), CHUNK_FRAMES):
        for spec, clip, part, missing in waiting:
            if chosen := missing[start : start + CHUNK_FRAMES]:
                yield Chunk(spec, clip, part, sorted(chosen))


def run_chunks(chunks: Sequence[Chunk], config: SamplesConfig, folder: SampleFolder, terminal: Terminal) -> None:
    """Sample all chunks in worker processes, or as many as the budget allows."""
    deadline_s = time.time() + 60 * config.budget_minutes if config.budget_minutes else float("inf")
    wanted = [folder.frame_path(chunk.clip, chunk.part, frame) for chunk in chunks for frame in chunk.frames]
    context = multiprocessing.get_context("spawn")  # forking a process with threads may deadlock it
    stop = context.Event()
    arguments = (msgspec.json.encode(config), deadline_s, stop)
    with ProcessPoolExecutor(config.workers, context, start_worker, arguments) as pool:
        pending = {pool.submit(run_chunk, msgspec.json.encode(chunk)) for chunk in chunks}
        try:
            while pending:
                done, pending = wait(pending, timeout=1.0)
                terminal.step(sum(path.exists() for path in wanted), len(wanted), "sampling frames")
                for future in done:
                    future.result()
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)


def sample(
    config: SamplesConfig, detector: BaseDetector, parts: Sequence[ClipPart], terminal: Terminal
) -> dict[str, Any]:
    """Sample what is missing and merge it into a file for each clip; returns what the job prints."""
    folder = SampleFolder(Path(config.folder), detector.name, detector.model_id, config.settings())
    chunks = list(make_chunks(parts, config, folder))
    try:
        if chunks:
            run_chunks(chunks, config, folder, terminal)
    finally:  # the samples of an interrupted job can be used as well
        files = [path for clip in dict.fromkeys(clip for _, clip, _ in parts) if (path := folder.merge(clip))]
    missing = sum(len(chunk.frames) for chunk in make_chunks(parts, config, folder))
    return {
        "model": detector.name,
        "model_id": detector.model_id,
        "folder": str(folder.path),
        "complete": not missing,
        "missing_frames": missing,
        "clips": {path.stem: summary(path) for path in files},
    }


@hydra_job(
    "profile_samples",
    {
        "budget_minutes=25": "stop after 25 minutes; the next call continues",
        "only=[walkS] moments=on_policy": "one clip, moments of a policy's decisions",
    },
)
def main(config: DictConfig) -> None:
    """Sample what the configuration asks for; print and store what there is."""
    terminal = Terminal.on_stderr()
    options = checked(config, SamplesConfig)
    check_trained(options.model, "samples are of its boxes")
    check_writable(cache_dir(), Path(options.folder))
    detector, (parts, left_out) = options.load_detector(), find_clips(options, terminal)
    store = Store(options.mlflow.tracking_uri, options.mlflow.experiment, Path(options.mlflow.artifact_dir))
    try:
        with store.run(f"samples of {options.model.name}", {"job": "profile_samples"}) as run:
            run.log_params(options.settings())
            facts = model_facts(options.model)
            run.tag({"model_id": detector.model_id} | facts)
            result = sample(options, detector, parts, terminal) | facts | {"left_out": left_out}
            run.log_metrics({"samples/frames": sum(clip["frames"] for clip in result["clips"].values())})
    except KeyboardInterrupt:
        terminal.note("sampled frames are kept: the same command continues from here")
        raise
    emit(result, Path("runs/profiling/samples.json"))


if __name__ == "__main__":
    raise SystemExit(main())
