"""The third step of a run: play it. What the two executors, `realtime.py` and `virtual.py`, have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from vitmalis.metrics.hysteresis import with_hysteresis
from vitmalis.references import Progress, ReferenceDetector, compute_references
from vitmalis.types import Detections
from vitmalis.video.spec import VideoSpec, open_video
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.detectors import boxes_cache, has_random_weights
from vitmalis_jobs.run.config import ReferenceOptions
from vitmalis_jobs.run.devices import DeviceResult
from vitmalis_jobs.run.records import RunRecords
from vitmalis_jobs.run.resources import Resources
from vitmalis_jobs.run.spec import PreparedRun

Tag = Callable[[Mapping[str, str]], None]
"""Sets tags of the MLflow run while it plays, so that a run that fails later has them too."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """What came of playing a run.

    Attributes:
        records: one row per frame and per offload.
        references: reference detections of every played frame; None where there are none, see `find_references`.
        metrics: numbers that the records do not hold, such as hits of the inference cache.
        busy: why its durations are not those of this machine when it is quiet, as phrases; empty if they are.
        whole: whether all processes ran to the end; not if the server or the relay had to be started again.
        others: what came of further devices on the same server.
    """

    records: RunRecords
    references: list[Detections] | None
    metrics: dict[str, float] = field(default_factory=dict)
    busy: Sequence[str] = ()
    whole: bool = True
    others: Sequence[DeviceResult] = ()

    @property
    def reusable(self) -> bool:
        """Whether other sweeps may take this run over."""
        return self.whole and not self.busy


class Executor(Protocol):
    """Plays a prepared run and leaves its records in the run's folder."""

    def __call__(
        self, run: PreparedRun, directory: Path, resources: Resources, terminal: Terminal, tag: Tag
    ) -> RunResult:
        """Play the run to its end.

        Raises:
            UserError: it cannot be played, for a reason that a user can mend, or its client crashed.
        """


def needs_detector(run: PreparedRun) -> bool:
    """Whether this process runs the model itself: as the virtual server, or for references."""
    return run.config.virtual or not (run.clip.live or has_random_weights(run.config.model))


def find_references(
    run: PreparedRun, resources: Resources, terminal: Terminal, tag: Tag = lambda _: None
) -> list[Detections] | None:
    """Reference detections of the played frames, computed where they are not cached.

    Returns:
        None where there are none that F1 could be measured against: for a live source, and for random weights.
    """
    model = run.config.model
    if run.clip.live:
        later = "vitmalis score RUN adds it" if run.config.output.record else "with output.record=true it can be added"
        terminal.warn(f"a live source has no references: F1 is left out ({later})")
        return None
    tag({"model_id": run.model_id})
    if has_random_weights(model):
        terminal.warn("random weights find nothing that means anything: references and F1 are left out")
        return None
    detector, cache = resources.detector(model), boxes_cache(model)
    with terminal.progress("references (full resolution, kept for later runs)") as step:
        return references_of(run.clip, detector, run.config.references, cache, step)


def references_of(
    clip: VideoSpec,
    detector: ReferenceDetector,
    options: ReferenceOptions,
    cache: Path,
    step: Progress = lambda done, total: None,
) -> list[Detections]:
    """References of every frame of a clip, by the configured rule.

    All detections are cached, whatever their score, so that the cache serves every rule.
    """
    found = compute_references(clip, detector, step, cache, options.workers)
    if options.hysteresis is None:
        return found
    return list(with_hysteresis(open_video(clip), found, options.hysteresis))
