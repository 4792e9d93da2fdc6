"""Durations of a run's stages that equation 2 leaves out: tracker, motion analyzer, decision, frames sent whole."""

from __future__ import annotations

import msgspec


class WholeFrame(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Durations of a frame that is sent as one plain JPEG after processing as a whole, in seconds."""

    encode_s: float
    decode_s: float
    inference_s: float


class TrackerTimes(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Durations of a tracker: medians in seconds.

    Attributes:
        prepare_s: what it makes of each captured frame.
        job_s, job_object_s: once per job, which follows boxes through one frame or several, and what each box adds.
        step_s, step_object_s: per frame of a job, and what each box adds.
        locate_s: locating boxes in the frame about to be offloaded; None where that is one step over all frames.
        spread: standard deviation of the logarithm of single durations around their medians.
    """

    prepare_s: float
    job_s: float = 0.0
    job_object_s: float = 0.0
    step_s: float
    step_object_s: float = 0.0
    locate_s: float | None = None
    spread: float = 0.0

    def tracking_s(self, objects: int, steps: int) -> float:
        """Median duration of a job that follows so many boxes through so many frames."""
        if not objects or not steps:
            return 0.0
        return self.job_s + objects * self.job_object_s + steps * (self.step_s + objects * self.step_object_s)

    def locating_s(self, objects: int) -> float:
        """Median duration of locating so many boxes, several frames later, before a decision."""
        return self.tracking_s(objects, 1) if self.locate_s is None else self.locate_s

    def slower(self, factor: float) -> TrackerTimes:
        """The durations on a device that takes `factor` times as long."""
        return TrackerTimes(
            prepare_s=factor * self.prepare_s,
            job_s=factor * self.job_s,
            job_object_s=factor * self.job_object_s,
            step_s=factor * self.step_s,
            step_object_s=factor * self.step_object_s,
            locate_s=None if self.locate_s is None else factor * self.locate_s,
            spread=self.spread,
        )


class StageTimes(
    msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True, rename={"downsampled": "halved"}
):
    """Durations that equation 2 leaves out and a virtual clock needs: medians in seconds.

    Attributes:
        prepare_s: the copy of a frame that the tracker `lucas_kanade` makes.
        tracking_step_s, tracking_object_s: its following boxes from one frame to the next, and what each box adds.
        motion_s: motion analysis of a frame.
        estimation_s, optimization_s: a decision's two parts; 0 where there are no estimators of the model.
        downsampled: a frame of 1/d of the side, as TrackUD sends it; `halved` in JSON, since d was once always 2.
        blanked: a frame with half of its regions painted flat, as TrackRoI sends it.
        spread: standard deviation of the logarithm of single durations around their medians, by stage: `encode`,
            `decode`, `inference`, `tracking` (of `lucas_kanade`), `motion`.
        trackers: durations of the other trackers, by name.
    """

    prepare_s: float
    tracking_step_s: float
    tracking_object_s: float
    motion_s: float
    estimation_s: float
    optimization_s: float
    downsampled: WholeFrame
    blanked: WholeFrame
    spread: dict[str, float] = {}
    trackers: dict[str, TrackerTimes] = {}

    def tracker(self, name: str) -> TrackerTimes | None:
        """Durations of a tracker by its name; None for one that was not measured."""
        if name != "lucas_kanade":
            return self.trackers.get(name)
        return TrackerTimes(
            prepare_s=self.prepare_s,
            step_s=self.tracking_step_s,
            step_object_s=self.tracking_object_s,
            spread=self.spread.get("tracking", 0.0),
        )
