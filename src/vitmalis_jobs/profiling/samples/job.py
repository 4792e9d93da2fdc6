"""Profiling samples: `python -m profiling.samples` (configuration: conf/profile_samples.yaml).

Runs the configuration space over sampled frames of every clip and stores, for each, what a device would know, the
payload and the F1: `runs/profiling/samples/<model_id>/<clip>.parquet`. Ended at any time, it goes on where it was. One
JSON object goes to standard output and to `runs/profiling/samples.json`, progress to standard error.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import hydra
import msgspec
import torch
from omegaconf import DictConfig

from vitmalis.detector import Detector, load_detector
from vitmalis.errors import UserError
from vitmalis.estimation.features import configuration_space
from vitmalis.metrics.matching import MatchRule
from vitmalis.paths import cache_dir
from vitmalis.regions.motion import MotionAnalyzer
from vitmalis.tracker import TrackerOptions
from vitmalis.video.clips import Part, resolve_clip
from vitmalis.video.spec import VideoSpec
from vitmalis_jobs.common.config import (
    Count,
    MlflowOptions,
    ModelOptions,
    NotNegative,
    Positive,
    Share,
    checked,
    conf_dir,
)
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.job_output import emit
from vitmalis_jobs.common.mlflow_store import Store
from vitmalis_jobs.profiling.samples.moments import replay, sampled_frames, staleness
from vitmalis_jobs.profiling.samples.outcomes import sample_moment, tried
from vitmalis_jobs.profiling.samples.storage import SampleFolder, summary

CHUNK_FRAMES = 3
"""Sampled frames for which a part is played once; the clips take turns by so many."""


class SamplesConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Keys mean what the comments in `conf/profile_samples.yaml` say."""

    model: ModelOptions
    clips: dict[str, dict[str, Any]]
    only: list[str] | None
    frames_per_clip: dict[Part, int]
    warmup_s: NotNegative
    staleness_s: tuple[NotNegative, NotNegative]
    qualities: list[int]
    tau_ds: list[int]
    restoration_points: list[int]
    qualities_per_point: Count
    score_threshold: Share
    iou_threshold: Share
    seed: int
    workers: Count
    budget_minutes: Positive | None
    folder: str
    mlflow: MlflowOptions

    def settings(self) -> dict[str, Any]:
        """What samples of a frame depend on, beside the frame and the model's id."""
        names = ("staleness_s", "qualities", "tau_ds", "restoration_points", "qualities_per_point",
                 "score_threshold", "iou_threshold", "seed")  # fmt: skip
        size = {"max_width": self.model.max_width, "max_height": self.model.max_height}
        return {name: msgspec.to_builtins(getattr(self, name)) for name in names} | size

    def detector(self) -> Detector:
        """The model."""
        return load_detector(self.model.name, **self.model.detector_options)


class Chunk(msgspec.Struct, frozen=True):
    """Frames of one part, for a worker."""

    spec: VideoSpec
    clip: str
    part: Part
    frames: list[int]


class Sampler:
    """Samples frames in a worker process.

    Args:
        config: of the job.
        deadline_s: no frame is begun after this time (`time.time()`).
        stop: no frame is begun once it is set.
    """

    def __init__(self, config: SamplesConfig, deadline_s: float, stop: Event) -> None:
        torch.set_num_threads(1)
        self._config, self._deadline_s, self._stop, self._parent = config, deadline_s, stop, os.getppid()
        self._detector = config.detector()
        self._space = configuration_space(config.qualities, config.tau_ds, config.restoration_points)
        self._folder = SampleFolder(
            Path(config.folder), self._detector.name, self._detector.model_id, config.settings()
        )

    def run(self, chunk: Chunk) -> None:
        """Sample and store the frames of a chunk."""
        config, spec = self._config, chunk.spec
        ages = {frame: staleness(spec, frame, config.staleness_s, config.seed) for frame in chunk.frames}
        analyzer = MotionAnalyzer(self._detector.config.region_grid(spec.height, spec.width))
        rule = MatchRule(config.iou_threshold, config.score_threshold)
        moments = replay(spec, ages, self._detector, analyzer, TrackerOptions(), config.score_threshold)
        while not self._over() and (moment := next(moments, None)) is not None:
            space = tried(self._space, config.qualities_per_point, config.seed + moment.frame_index)
            self._folder.save_frame(
                sample_moment(moment, space, self._detector, rule, clip=chunk.clip, part=chunk.part)
            )

    def _over(self) -> bool:
        orphaned = os.getppid() != self._parent
        return self._stop.is_set() or time.time() > self._deadline_s or orphaned


_sampler: Sampler  # one per worker process


def _start_worker(config: bytes, deadline_s: float, stop: Event) -> None:
    global _sampler
    for number in (signal.SIGINT, signal.SIGTERM):  # they reach the parent, which lets frames under way be finished
        signal.signal(number, signal.SIG_IGN)
    _sampler = Sampler(msgspec.json.decode(config, type=SamplesConfig), deadline_s, stop)


def _run_chunk(chunk: bytes) -> None:
    _sampler.run(msgspec.json.decode(chunk, type=Chunk))


def find_clips(config: SamplesConfig, terminal: Terminal) -> tuple[list[tuple[VideoSpec, str, Part]], dict[str, str]]:
    """The parts that are sampled, and why others cannot be."""
    found: list[tuple[VideoSpec, str, Part]] = []
    left_out = {}
    limits: dict[str, Any] = {"max_width": config.model.max_width, "max_height": config.model.max_height}
    if unknown := sorted(set(config.only or ()) - set(config.clips)):
        raise UserError(f"only={unknown}: choose among {', '.join(config.clips)}")
    for name in config.only or config.clips:
        options = config.clips[name]
        for part in (part for part, count in config.frames_per_clip.items() if count):
            try:
                spec = resolve_clip(name, part=part, **options, **limits, cache_dir=cache_dir(), progress=terminal.step)
            except UserError as error:
                left_out[name] = str(error)
                terminal.note(f"{name} is left out: {error}")
                break
            found.append((spec, name, part))
    if not found:
        raise UserError("profile_samples: none of the clips can be had here; see the lines above")
    return found, left_out


def make_chunks(
    parts: Sequence[tuple[VideoSpec, str, Part]], config: SamplesConfig, folder: SampleFolder
) -> Iterator[Chunk]:
    """The frames that are not sampled yet; clips take turns, so that an early end leaves some of each."""
    waiting = []
    for spec, clip, part in parts:
        frames = sampled_frames(spec, config.frames_per_clip[part], config.warmup_s)
        missing = [frame for frame in frames if not folder.frame_path(clip, part, frame).exists()]
        waiting.append((spec, clip, part, missing))
    for start in range(0, max(config.frames_per_clip.values()), CHUNK_FRAMES):
        for spec, clip, part, missing in waiting:
            if chosen := missing[start : start + CHUNK_FRAMES]:
                yield Chunk(spec, clip, part, sorted(chosen))


def work(chunks: Sequence[Chunk], config: SamplesConfig, folder: SampleFolder, terminal: Terminal) -> None:
    """Sample all chunks in worker processes, or as many as the budget allows."""
    deadline_s = time.time() + 60 * config.budget_minutes if config.budget_minutes else float("inf")
    wanted = [folder.frame_path(chunk.clip, chunk.part, frame) for chunk in chunks for frame in chunk.frames]
    context = multiprocessing.get_context("spawn")  # forking a process with threads may deadlock it
    stop = context.Event()
    arguments = (msgspec.json.encode(config), deadline_s, stop)
    with ProcessPoolExecutor(config.workers, context, _start_worker, arguments) as pool:
        pending = {pool.submit(_run_chunk, msgspec.json.encode(chunk)) for chunk in chunks}
        try:
            while pending:
                done, pending = wait(pending, timeout=1.0)
                terminal.step(sum(path.exists() for path in wanted), len(wanted), "sampling frames")
                for future in done:
                    future.result()
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)


def collect(config: SamplesConfig, terminal: Terminal) -> dict[str, Any]:
    """Run the job; returns what its JSON says."""
    detector = config.detector()
    folder = SampleFolder(Path(config.folder), detector.name, detector.model_id, config.settings())
    parts, left_out = find_clips(config, terminal)
    chunks = list(make_chunks(parts, config, folder))
    try:
        if chunks:
            work(chunks, config, folder, terminal)
    finally:  # also what an interrupted run has sampled can be used
        files = [path for clip in dict.fromkeys(clip for _, clip, _ in parts) if (path := folder.merge(clip))]
    missing = sum(len(chunk.frames) for chunk in make_chunks(parts, config, folder))
    return {
        "model": detector.name,
        "model_id": detector.model_id,
        "folder": str(folder.path),
        "complete": not missing,
        "missing_frames": missing,
        "left_out": left_out,
        "clips": {path.stem: summary(path) for path in files},
    }


@hydra.main(version_base=None, config_path=str(conf_dir()), config_name="profile_samples")
def main(config: DictConfig) -> None:
    """Entry point."""
    terminal = Terminal.on_stderr()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended from outside: in order, like Ctrl-C
    try:
        options = checked(config, SamplesConfig)
        store = Store(options.mlflow.tracking_uri, options.mlflow.experiment, Path(options.mlflow.artifact_dir))
        with store.run(f"samples of {options.model.name}", {"job": "profile_samples"}) as run:
            run.log_params(options.settings())
            result = collect(options, terminal)
            run.tag({"model_id": result["model_id"]})
            run.log_metrics({"frames": sum(clip["frames"] for clip in result["clips"].values())})
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted: the next run goes on from here", file=sys.stderr)
        sys.exit(130)
    emit(result, Path("runs/profiling/samples.json"))


if __name__ == "__main__":
    main()
