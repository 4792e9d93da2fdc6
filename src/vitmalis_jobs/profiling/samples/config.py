"""Typed form of `conf/profile_samples.yaml`."""

from __future__ import annotations

from typing import Any

import msgspec

from vitmalis.detector import BaseDetector, load_any_detector
from vitmalis.regions import MotionOptions
from vitmalis.tracker import TrackerOptions
from vitmalis.video.clips import Part
from vitmalis_jobs.common.config import (
    Count,
    MlflowOptions,
    ModelOptions,
    NotNegative,
    Overlap,
    Positive,
    Section,
    Share,
)
from vitmalis_jobs.profiling.samples.moments import MomentKind
from vitmalis_jobs.profiling.samples.on_policy import PolicyOptions


class DeviceOptions(msgspec.Struct, frozen=True, kw_only=True):
    """`client`: the tracker and motion analyzer of the device; the group's other options do not matter here."""

    tracker: TrackerOptions
    motion: MotionOptions


class SamplesConfig(Section, frozen=True):
    """Configuration of the whole job."""

    model: ModelOptions
    client: DeviceOptions
    clips: dict[str, dict[str, Any]]
    only: list[str] | None
    frames_per_clip: dict[Part, int]
    moments: MomentKind
    on_policy: PolicyOptions
    warmup_s: NotNegative
    staleness_s: tuple[NotNegative, NotNegative]
    qualities: list[int]
    tau_ds: list[int]
    restoration_points: list[int]
    qualities_per_point: Count
    score_threshold: Share
    iou_threshold: Overlap
    seed: int
    workers: Count
    budget_minutes: Positive | None
    folder: str
    mlflow: MlflowOptions

    def settings(self) -> dict[str, Any]:
        """What the samples of a frame depend on, apart from the frame and the model's id."""
        names = ("client", "staleness_s", "qualities", "tau_ds", "restoration_points", "qualities_per_point",
                 "score_threshold", "iou_threshold", "seed")  # fmt: skip
        size = {"max_width": self.model.max_width, "max_height": self.model.max_height}
        found = {name: msgspec.to_builtins(getattr(self, name)) for name in names} | size
        tracker = found["client"]["tracker"]
        if tracker["name"] == "lucas_kanade":
            del tracker["name"]  # as in samples from before there was a choice, which stay valid
        if self.moments == "on_policy":
            del found["staleness_s"]  # is what the run makes it
            found |= {"on_policy": msgspec.to_builtins(self.on_policy)}
        return found

    def load_detector(self) -> BaseDetector:
        """Load the model that is configured."""
        return load_any_detector(self.model.name, **self.model.detector_options)
