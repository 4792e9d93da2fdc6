"""Outcomes of all configurations at one moment: payload size and F1, with the features of the estimators."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
import numpy as np

from vitmalis.codec.jpeg import decode_jpeg
from vitmalis.codec.offload import encode_offload
from vitmalis.codec.packing import unpack
from vitmalis.detector import BaseDetector
from vitmalis.estimation.features import ACCURACY_FEATURES, REFERENCE, Candidates, candidate_features
from vitmalis.matching import MatchRule, match
from vitmalis.offload import OffloadDecision
from vitmalis.regions.classify import classify, downsample_mask, region_uncertainty, task_relevance
from vitmalis.regions.grid import RegionGrid
from vitmalis.types import BoolMask, Configuration, Detections, RgbImage
from vitmalis_jobs.profiling.samples.moments import Moment

_WHOLE = ("tau_d", "quality", "restoration_point", "downsampled_regions")
"""Features that are stored as integers."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """Outcome of one configuration at one moment; a row of the Parquet files.

    Attributes:
        clip, part: of the frame.
        frame_index: position in the part, from 0.
        moments: kind of the moment, see `Moment`.
        tau_d, quality, restoration_point: the configuration.
        downsampled_regions: N_d, of `regions` in the frame.
        downsampled_motion, frame_motion: m_d and m_f.
        relevance_mean, relevance_std: mean and standard deviation of rho_j over all regions.
        uncertainty, downsampled_uncertainty: u and u_d, see `vitmalis.regions.region_uncertainty`.
        payload_bytes: size of the compressed frame.
        f1: against the full-resolution result on the raw frame.
        tp, fp, fn: the boxes behind it, see `vitmalis.matching.Counts`.
        width, height: size of the frame, pixels.
        staleness_frames: age of the boxes that the relevance is computed from.
    """

    clip: str
    part: str
    frame_index: int
    moments: str
    tau_d: int
    quality: int
    restoration_point: int
    downsampled_regions: int
    regions: int
    downsampled_motion: float
    frame_motion: float
    relevance_mean: float
    relevance_std: float
    uncertainty: float
    downsampled_uncertainty: float
    payload_bytes: int
    f1: float
    tp: int
    fp: int
    fn: int
    width: int
    height: int
    staleness_frames: int


@dataclass(slots=True)
class Trials:
    """Trial offloads of one frame; encodings and inferences that configurations share are made once.

    Attributes:
        image: RGB uint8 (H, W, 3).
        grid: its decision regions.
        detector: the server's model.
    """

    image: RgbImage
    grid: RegionGrid
    detector: BaseDetector
    _payloads: dict[tuple[bytes, int], bytes] = field(default_factory=dict)
    _results: dict[tuple[bytes, int, int], Detections] = field(default_factory=dict)

    def payload(self, mask: BoolMask, quality: int) -> bytes:
        """The JPEG file that a client would send."""
        key = mask.tobytes(), quality
        if key not in self._payloads:
            decision = OffloadDecision(Configuration(quality=quality), downsample_mask=mask if mask.any() else None)
            self._payloads[key] = encode_offload(self.image, decision, self.grid).jpeg
        return self._payloads[key]

    def result(self, mask: BoolMask, quality: int, restoration_point: int) -> Detections:
        """The detections that the server would return."""
        point = restoration_point if mask.any() else 0  # a frame without low resolution has nothing to restore
        key = mask.tobytes(), quality, point
        if key not in self._results:
            self._results[key] = self._detect(decode_jpeg(self.payload(mask, quality), 2**31), mask, point)
        return self._results[key]

    def _detect(self, sent: RgbImage, mask: BoolMask, point: int) -> Detections:
        if not mask.any():
            return self.detector.detect(sent)
        patches = unpack(sent, self.grid, mask)
        return self.detector.detect_patches(patches, self.image.shape[:2], mask, point)


def sample_moment(
    moment: Moment, candidates: Candidates, detector: BaseDetector, rule: MatchRule, **place: str
) -> list[Sample]:
    """Try candidates on the frame of a moment.

    Args:
        moment: the frame and what the device knows.
        candidates: configurations to try.
        detector: the server's model; its result on the raw frame is the reference.
        rule: how boxes are matched.
        place: `clip` and `part` of the rows.
    """
    height, width = moment.image.shape[:2]
    grid = detector.geometry.grid(width, height)
    relevance = task_relevance(grid, moment.tracked)
    types = classify(moment.motion.region_motion, relevance)
    uncertainty = region_uncertainty(grid, moment.tracked)
    features = candidate_features(candidates, moment.motion, relevance, uncertainty, types).of(ACCURACY_FEATURES)
    reference = detector.detect(moment.image)
    trials = Trials(moment.image, grid, detector)
    samples = []
    for row, values in enumerate(features):
        configuration = candidates.configuration(row)
        mask = downsample_mask(types, configuration.tau_d)
        quality, point = configuration.quality, configuration.restoration_point
        described = dict(zip(ACCURACY_FEATURES, values.tolist(), strict=True))
        described |= {name: round(described[name]) for name in _WHOLE}
        counts = match(trials.result(mask, quality, point), reference, rule)
        sample = {
            **place,
            **described,
            "frame_index": moment.frame_index,
            "moments": moment.kind,
            "regions": types.size,
            "f1": counts.f1_or_one,
            "tp": counts.tp,
            "fp": counts.fp,
            "fn": counts.fn,
            "payload_bytes": len(trials.payload(mask, quality)),
            "width": width,
            "height": height,
            "staleness_frames": moment.staleness_frames,
        }
        samples.append(msgspec.convert(sample, Sample))
    return samples


def candidates_to_try(space: Candidates, qualities_per_point: int, seed: int) -> Candidates:
    """Choose the configurations to try on one frame: the whole space, or a part of it to have time for more frames.

    For each tau_d the qualities are shuffled and dealt to its restoration points in turn, so that few inferences cover
    many qualities and every point. `REFERENCE`, which the others are compared with, is always tried.

    Args:
        space: the configuration space.
        qualities_per_point: of each tau_d; the number of qualities gives the whole space.
        seed: of the choice.
    """
    draws = np.random.default_rng(seed)
    chosen = np.array([space.configuration(row) == REFERENCE for row in range(len(space))])
    for tau_d in np.unique(space.tau_d):
        qualities = draws.permutation(np.unique(space.quality[space.tau_d == tau_d]))
        points = draws.permutation(np.unique(space.restoration_point[space.tau_d == tau_d]))
        for turn, point in enumerate(points):
            dealt = np.roll(qualities, -turn * qualities_per_point)[:qualities_per_point]
            rows = (space.tau_d == tau_d) & (space.restoration_point == point)
            chosen |= rows & np.isin(space.quality, dealt)
    return space.where(chosen)
