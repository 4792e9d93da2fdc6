"""The configuration space, and the estimators' features of each configuration (paper, section IV-D)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from vitmalis.errors import UserError
from vitmalis.regions.classify import DOWNSAMPLED_TYPES, downsample_mask
from vitmalis.regions.motion import Motion
from vitmalis.types import BoolMask, Configuration

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

SIZE_FEATURES = ("tau_d", "downsampled_regions", "downsampled_motion", "frame_motion", "quality")
"""Inputs of equation 1: tau_d, N_d, m^d, m^f, lambda."""

ACCURACY_FEATURES = (
    "tau_d", "quality", "restoration_point", "downsampled_regions", "downsampled_motion", "frame_motion",
    "relevance_mean", "relevance_std",
)  # fmt: skip
"""Inputs of equation 3: c = (tau_d, lambda, beta), N_d, m^d, m^f, mu(rho_j), sigma(rho_j)."""

QUALITIES = (70, 75, 80, 85, 90, 95, 100)
DOWNSAMPLING_TYPES = tuple(DOWNSAMPLED_TYPES)
RESTORATION_POINTS = (0, 1, 2, 3, 4)

REFERENCE = Configuration(tau_d=0, quality=95, restoration_point=0)
"""The configuration that the F1 of the others is compared with, on the same frame."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Configurations to choose from, as columns.

    Attributes:
        tau_d, quality, restoration_point: int64 (n,), as in `vitmalis.types.Configuration`.
        cached: bool (n,), whether the frame's unchanged regions are cached, which no estimator knows of.
    """

    tau_d: IntArray
    quality: IntArray
    restoration_point: IntArray
    cached: BoolMask

    def __len__(self) -> int:
        return len(self.tau_d)

    def configuration(self, index: int) -> Configuration:
        """The configuration of the candidate at `index`."""
        return Configuration(int(self.tau_d[index]), int(self.quality[index]), int(self.restoration_point[index]))

    def where(self, chosen: BoolMask) -> Candidates:
        """Select the candidates that are true in a mask, bool (n,)."""
        return Candidates(self.tau_d[chosen], self.quality[chosen], self.restoration_point[chosen], self.cached[chosen])

    def with_more(self, other: Candidates) -> Candidates:
        """These candidates followed by others."""
        columns = (np.concatenate([getattr(each, f.name) for each in (self, other)]) for f in fields(self))
        return Candidates(*columns)

    @classmethod
    def uncached(cls, tau_d: IntArray, quality: IntArray, restoration_point: IntArray) -> Candidates:
        """Configurations by their columns, int64 (n,), without cached regions."""
        return cls(tau_d, quality, restoration_point, np.zeros(len(tau_d), bool))

    @classmethod
    def of(cls, configurations: Sequence[Configuration]) -> Candidates:
        """The columns of a list of configurations, without cached regions."""
        rows = np.array([(c.tau_d, c.quality, c.restoration_point) for c in configurations], np.int64).reshape(-1, 3)
        return cls.uncached(*np.ascontiguousarray(rows.T))


def configuration_space(
    qualities: Sequence[int] = QUALITIES,
    tau_d: Sequence[int] = DOWNSAMPLING_TYPES,
    restoration_points: Sequence[int] = RESTORATION_POINTS,
) -> Candidates:
    """All combinations; with tau_d = 0 nothing is restored, so only restoration point 0 (77 by default).

    Raises:
        UserError: an empty space, a downsampling type other than 0, 1, 2 or a quality outside 1..100.
    """
    if unknown := sorted(set(tau_d) - set(DOWNSAMPLING_TYPES)):
        raise UserError(f"configuration space: tau_d {unknown} is not among {DOWNSAMPLING_TYPES}")
    if wrong := sorted(q for q in qualities if not 1 <= q <= 100):
        raise UserError(f"configuration space: JPEG quality {wrong} is not in 1..100")
    configurations = [
        Configuration(tau, quality, point)
        for tau in tau_d
        for point in (restoration_points if tau else (0,))
        for quality in qualities
    ]
    if not configurations:
        raise UserError("configuration space: it is empty; give at least one tau_d, quality and restoration point")
    return Candidates.of(configurations)


@dataclass(frozen=True, slots=True, eq=False)
class CandidateFeatures:
    """Inputs of the estimators, one row for each candidate.

    Attributes:
        size: float64 (n, 5), columns as in `SIZE_FEATURES`.
        accuracy: float64 (n, 8), columns as in `ACCURACY_FEATURES`.
        downsampled_regions: N_d, float64 (n,).
    """

    size: FloatArray
    accuracy: FloatArray
    downsampled_regions: FloatArray

    def over_regions(self, relevance: FloatArray, regions: int) -> CandidateFeatures:
        """The same frame for estimators that learned with other decision regions.

        N_d becomes the same share of their regions, and relevance is that over them; motion is in shares of the
        frame's foreground, which no division into regions changes. `downsampled_regions` stays as it is.

        Args:
            relevance: rho_j over the regions that were learned with, (rows, cols).
            regions: number of decision regions of the frame.
        """
        accuracy = self.accuracy.copy()
        accuracy[:, ACCURACY_FEATURES.index("downsampled_regions")] *= relevance.size / regions
        accuracy[:, ACCURACY_FEATURES.index("relevance_mean")] = relevance.mean()
        accuracy[:, ACCURACY_FEATURES.index("relevance_std")] = relevance.std()
        return CandidateFeatures(accuracy[:, _SIZE_COLUMNS], accuracy, self.downsampled_regions)


def downsampled_regions(candidates: Candidates, region_types: NDArray[np.int8]) -> FloatArray:
    """N_d of every candidate (n,) in a frame with regions of these types (rows, cols)."""
    return _masks(region_types).sum(axis=(1, 2), dtype=np.float64)[candidates.tau_d]


def _masks(region_types: NDArray[np.int8]) -> BoolMask:
    """The regions that each tau_d downsamples, (tau_d, rows, cols)."""
    return np.stack([downsample_mask(region_types, tau_d) for tau_d in DOWNSAMPLING_TYPES])


def candidate_features(
    candidates: Candidates, motion: Motion, relevance: FloatArray, region_types: NDArray[np.int8]
) -> CandidateFeatures:
    """Features of every candidate for one frame.

    Args:
        candidates: n configurations.
        motion: m_j (rows, cols) and m^f.
        relevance: rho_j (rows, cols).
        region_types: `RegionType` of each region (rows, cols).

    Raises:
        ValueError: the three arrays are of different shapes.
    """
    if not region_types.shape == motion.region_motion.shape == relevance.shape:
        shapes = region_types.shape, motion.region_motion.shape, relevance.shape
        raise ValueError(f"region types, motion and relevance are of different shapes: {shapes}")
    masks = _masks(region_types)
    downsampled = masks.sum(axis=(1, 2), dtype=np.float64)
    downsampled_motion = (masks * motion.region_motion.astype(np.float64)).sum(axis=(1, 2))
    columns = {
        "tau_d": candidates.tau_d,
        "quality": candidates.quality,
        "restoration_point": candidates.restoration_point,
        "downsampled_regions": downsampled[candidates.tau_d],
        "downsampled_motion": downsampled_motion[candidates.tau_d],
        "frame_motion": motion.frame_motion,
        "relevance_mean": relevance.mean(),
        "relevance_std": relevance.std(),
    }
    accuracy = np.empty((len(candidates), len(ACCURACY_FEATURES)))
    for column, name in enumerate(ACCURACY_FEATURES):
        accuracy[:, column] = columns[name]
    return CandidateFeatures(accuracy[:, _SIZE_COLUMNS], accuracy, downsampled[candidates.tau_d])


_SIZE_COLUMNS = [ACCURACY_FEATURES.index(name) for name in SIZE_FEATURES]
