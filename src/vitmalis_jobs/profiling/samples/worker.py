"""Worker processes of the samples job: each samples chunks of frames with a detector of its own."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from multiprocessing.synchronize import Event
from pathlib import Path

import msgspec
import torch

from vitmalis.estimation.features import configuration_space
from vitmalis.matching import MatchRule
from vitmalis.regions.motion import MotionAnalyzer
from vitmalis.video.clips import Part
from vitmalis.video.spec import VideoSpec
from vitmalis_jobs.profiling.samples.config import SamplesConfig
from vitmalis_jobs.profiling.samples.moments import Moment, replay, staleness
from vitmalis_jobs.profiling.samples.on_policy import played
from vitmalis_jobs.profiling.samples.outcomes import candidates_to_try, sample_moment
from vitmalis_jobs.profiling.samples.storage import SampleFolder


class Chunk(msgspec.Struct, frozen=True):
    """Frames of one part that one worker samples."""

    spec: VideoSpec
    clip: str
    part: Part
    frames: list[int]


class Sampler:
    """Samples frames in a worker process.

    Args:
        config: of the job.
        deadline_s: no frame is started after this time (`time.time()`).
        stop: no frame is started once it is set.
    """

    def __init__(self, config: SamplesConfig, deadline_s: float, stop: Event) -> None:
        torch.set_num_threads(1)
        self._config, self._deadline_s, self._stop, self._parent = config, deadline_s, stop, os.getppid()
        self._detector = config.load_detector()
        self._space = configuration_space(config.qualities, config.tau_ds, config.restoration_points)
        self._folder = SampleFolder(
            Path(config.folder), self._detector.name, self._detector.model_id, config.settings()
        )

    def run(self, chunk: Chunk) -> None:
        """Sample and store the frames of a chunk."""
        config, rule = self._config, MatchRule(self._config.iou_threshold, self._config.score_threshold)
        moments = self._played(chunk) if config.moments == "on_policy" else self._tracked(chunk)
        while not self._ended() and (found := next(moments, None)) is not None:
            frame, moment = found
            space = candidates_to_try(self._space, config.qualities_per_point, config.seed + frame)
            samples = sample_moment(moment, space, self._detector, rule, clip=chunk.clip, part=chunk.part)
            self._folder.save_frame(samples, frame)

    def _tracked(self, chunk: Chunk) -> Iterator[tuple[int, Moment]]:
        config, spec = self._config, chunk.spec
        ages = {frame: staleness(spec, frame, config.staleness_s, config.seed) for frame in chunk.frames}
        analyzer = MotionAnalyzer(self._detector.geometry.grid(spec.width, spec.height), config.client.motion)
        for moment in replay(spec, ages, self._detector, analyzer, config.client.tracker, config.score_threshold):
            yield moment.frame_index, moment

    def _played(self, chunk: Chunk) -> Iterator[tuple[int, Moment]]:
        config, device = self._config, (self._config.client.tracker, self._config.client.motion)
        folder = self._folder.path / "latency"
        return played(chunk.spec, chunk.frames, self._detector, config.on_policy, device, folder, config.seed)

    def _ended(self) -> bool:
        orphaned = os.getppid() != self._parent
        return self._stop.is_set() or time.time() > self._deadline_s or orphaned


_sampler: Sampler  # one in each worker process


def start_worker(config: bytes, deadline_s: float, stop: Event) -> None:
    """Prepare a worker process; arguments as of `Sampler`, the configuration as JSON."""
    global _sampler
    for number in (signal.SIGINT, signal.SIGTERM):  # they reach the parent, which lets frames under way finish
        signal.signal(number, signal.SIG_IGN)
    _sampler = Sampler(msgspec.json.decode(config, type=SamplesConfig), deadline_s, stop)


def run_chunk(chunk: bytes) -> None:
    """Sample a chunk, given as JSON, in a prepared worker process."""
    _sampler.run(msgspec.json.decode(chunk, type=Chunk))
