"""The document of a run page: what the page shows, as typed structs that are stored as JSON.

The JSON lies in the page itself, in `<script id="run" type="application/json">`. Frames are columns with one value for
each frame of the clip; boxes and candidates are arrays in the order of their attributes. Times are seconds on the run's
clock. Pixels are rounded to 0.1, other numbers to four decimals.
"""

from __future__ import annotations

import msgspec

from vitmalis_jobs.run.figures.mask_outlines import Outline

FORMAT = 1
"""Version of the document; pages of another version are refused."""


class Box(msgspec.Struct, frozen=True, array_like=True):
    """A box that counts, that is, one with at least the score threshold.

    Attributes:
        x1, y1, x2, y2: pixels of the frame.
        score: confidence, 0..1.
        label: key of `Legend.classes`.
        matched: of a shown box whether it found a reference box, of a reference box whether it was found; None without
            references.
    """

    x1: float
    y1: float
    x2: float
    y2: float
    score: float
    label: int
    matched: bool | None = None


class Candidate(msgspec.Struct, frozen=True, array_like=True):
    """A configuration that a policy weighed, with what it was expected to cost and to give."""

    tau_d: int
    quality: int
    restoration_point: int
    payload_bytes: float
    e2e_latency_s: float
    f1: float


class Expectation(msgspec.Struct, frozen=True):
    """A quantity of an offload as the policy expected it, and as it was; None for what is not known."""

    expected: float | None
    actual: float | None


class Decision(msgspec.Struct, frozen=True):
    """Why an offload was configured as it was, see `vitmalis.explanation.DecisionExplanation`.

    Attributes:
        reason: key of `Legend.reasons`, or a policy's own.
        region_types: index into `Legend.region_types` for each region.
        tracked: number of objects known.
        candidates: all configurations that were weighed.
        frontier: indices of the candidates on the Pareto frontier, from the fastest.
        knee, chosen: indices of candidates.
        cached_regions: how many regions each candidate has cached; empty where none has any.
        estimates_age_frames: frames since the one that their sizes and F1 were estimated from, ahead of the decision;
            None where they were estimated in it.
        expects_reward: whether the F1 of candidates is a reward, as `bandit` expects it; 0 bytes or seconds then mean
            that nothing is known yet.
    """

    reason: str
    region_types: list[int]
    frame_motion: float
    tracked: int
    frames_since_offload: int
    retention: float
    rtt_s: float
    candidates: list[Candidate]
    frontier: list[int]
    knee: int
    chosen: int
    estimates_age_frames: int | None = None
    cached_regions: list[int] = []
    expects_reward: bool = False


class Offload(msgspec.Struct, frozen=True):
    """What one offload sent, cost and gave.

    Attributes:
        frame: the offloaded frame.
        status: ok, lost or failed.
        lost_because: why it was lost or failed, or has no second round that it should have, else empty.
        low_regions: indices of the regions that were sent at low resolution.
        low_factor: how much smaller those were sent, along each axis.
        marked_regions: indices of the regions of which no pixels were sent, by what became of them instead.
        coarse_quality: JPEG quality of the macroblocks in `coarse_areas`; 0 without any.
        coarse_areas: left, top, right and bottom of areas coded at the lower quality, in pixels.
        start_s: start of encoding.
        stages_s: duration of each stage, in the order of `Legend.stages`.
        decision: None from a policy that weighs no candidates.
        second_round_of: offload that sent the same frame before, -1 for none.
    """

    offload_id: int
    frame: int
    status: str
    lost_because: str
    tau_d: int
    quality: int
    restoration_point: int
    low_regions: list[int]
    low_factor: int
    start_s: float
    stages_s: list[float | None]
    e2e_latency_s: Expectation
    payload_bytes: Expectation
    f1: Expectation
    uplink_mbps: Expectation
    decision: Decision | None
    marked_regions: dict[str, list[int]] = {}
    coarse_quality: int = 0
    coarse_areas: list[list[int]] = []
    second_round_of: int = -1


class Frames(msgspec.Struct, frozen=True):
    """What the user saw on each frame, as columns.

    Attributes:
        capture_s: time of capture.
        captured: false for a frame that the camera lost.
        declined: true for a frame that the policy was asked to offload and declined; empty if that is not known.
        source: where the boxes come from: remote, tracker, stale or none.
        result_frame: the offloaded frame that the boxes stem from, -1 for none.
        result_offload: number of the offload whose result they stem from, -1 for none; of a frame that was sent twice,
            that of the second round once its result had arrived. Empty in older pages.
        boxes: those shown.
        references: those of the full-resolution model; empty lists without references.
        f1: of the frame; None where there is nothing to find, and without references.
        masks: index into `outlines` for each of `boxes`; empty from a model that finds boxes only.
        outlines: of distinct masks, which objects keep while they are tracked: polygons of x, y, one after another, in
            thousandths of the box's sides; one inside another is a hole.
    """

    capture_s: list[float]
    captured: list[bool]
    source: list[str]
    result_frame: list[int]
    boxes: list[list[Box]]
    references: list[list[Box]]
    f1: list[float | None]
    declined: list[bool] = []
    masks: list[list[int]] = []
    outlines: list[Outline] = []
    result_offload: list[int] = []


class Capacity(msgspec.Struct, frozen=True):
    """The uplink while the clip played: rows that hold until the next one begins."""

    time_s: list[float]
    uplink_mbps: list[float]
    rtt_ms: list[float]


class Clip(msgspec.Struct, frozen=True):
    """The played part of the video.

    Attributes:
        digest: of the video file's bytes and the played part; empty for a live source.
        regions: left, top, right and bottom of each decision region in pixels, in raster order.
        note: what a reader must know, e.g. that the clip is synthetic.
    """

    name: str
    digest: str
    width: int
    height: int
    fps: float
    regions: list[list[int]]
    note: str


class Named(msgspec.Struct, frozen=True):
    """A name and its colour, `#rrggbb`."""

    name: str
    colour: str


class Legend(msgspec.Struct, frozen=True):
    """What numbers in the document stand for.

    Attributes:
        stages: of an offload, in their order.
        region_types: of decision regions, by index.
        tau_d: what each tau_d downsamples, by index.
        reasons: sentence for each reason of a decision.
        classes: of boxes, by label; those that occur.
    """

    stages: list[Named]
    region_types: list[Named]
    tau_d: list[Named]
    reasons: dict[str, str]
    classes: dict[int, Named]


class RunDocument(msgspec.Struct, frozen=True, tag_field="kind", tag="vitmalis run"):
    """Everything that the page of a run shows.

    Attributes:
        policy, trace: names.
        clip: what was played.
        facts: about the run, by name.
        stand_ins: parts of the run that stand in for something else, and for what.
        metrics: of the run, see `vitmalis.metrics.summarise`.
        iou_threshold: least overlap of a box that counts as found.
        score_threshold: boxes below it are neither shown nor counted.
        has_references: whether there are references, without which there is no F1.
        capacity: None for a link without emulation, and where the trace is gone.
    """

    policy: str
    trace: str
    clip: Clip
    facts: dict[str, str]
    stand_ins: dict[str, str]
    metrics: dict[str, float]
    iou_threshold: float
    score_threshold: float
    has_references: bool
    legend: Legend
    frames: Frames
    offloads: list[Offload]
    capacity: Capacity | None
    format: int = FORMAT
