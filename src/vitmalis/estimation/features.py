"""The configuration space, and the estimators' features of each configuration (paper, section IV-D)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

PAPER_ACCURACY_FEATURES = (
    "tau_d", "quality", "restoration_point", "downsampled_regions", "downsampled_motion", "frame_motion",
    "relevance_mean", "relevance_std",
)  # fmt: skip
"""Inputs of equation 3: c = (tau_d, lambda, beta), N_d, m^d, m^f, mu(rho_j), sigma(rho_j)."""

ACCURACY_FEATURES = (*PAPER_ACCURACY_FEATURES, "uncertainty", "downsampled_uncertainty")
"""Those, and u and u^d, the objects' mean uncertainty and what downsampled regions hold of it (`region_uncertainty`).

An object whose score is near the threshold is what low quality loses first, and the scores are known on the device.
"""

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
    """Inputs of the estimators for each candidate.

    Attributes:
        columns: float64 (n,) for each of `ACCURACY_FEATURES`.
    """

    columns: Mapping[str, FloatArray]

    def of(self, names: Sequence[str]) -> FloatArray:
        """The columns that an estimator takes, by their names: (n, F)."""
        return np.column_stack([self.columns[name] for name in names])

    def over_regions(self, relevance: FloatArray, regions: int) -> CandidateFeatures:
        """The same frame for estimators that learned with other decision regions.

        N_d becomes the same share of their regions, and relevance is that over them; motion is in shares of the
        frame's foreground and uncertainty in shares of the objects', which no division into regions changes.

        Args:
            relevance: rho_j over the regions that were learned with, (rows, cols).
            regions: number of decision regions of the frame.
        """
        downsampled = self.columns["downsampled_regions"] * (relevance.size / regions)
        mean, std = (np.full(len(downsampled), value) for value in (relevance.mean(), relevance.std()))
        changed = {"downsampled_regions": downsampled, "relevance_mean": mean, "relevance_std": std}
        return CandidateFeatures({**self.columns, **changed})


def downsampled_regions(candidates: Candidates, region_types: NDArray[np.int8]) -> FloatArray:
    """N_d of every candidate (n,) in a frame with regions of these types (rows, cols)."""
    return _masks(region_types).sum(axis=(1, 2), dtype=np.float64)[candidates.tau_d]


def _masks(region_types: NDArray[np.int8]) -> BoolMask:
    """The regions that each tau_d downsamples, (tau_d, rows, cols)."""
    return np.stack([downsample_mask(region_types, tau_d) for tau_d in DOWNSAMPLING_TYPES])


def candidate_features(
    candidates: Candidates,
    motion: Motion,
    relevance: FloatArray,
    uncertainty: FloatArray,
    region_types: NDArray[np.int8],
) -> CandidateFeatures:
    """Features of every candidate for one frame.

    Args:
        candidates: n configurations.
        motion: m_j (rows, cols) and m^f.
        relevance: rho_j (rows, cols).
        uncertainty: u_j (rows, cols), see `region_uncertainty`.
        region_types: `RegionType` of each region (rows, cols).

    Raises:
        ValueError: the four arrays are of different shapes.
    """
    shapes = [each.shape for each in (region_types, motion.region_motion, relevance, uncertainty)]
    if len(set(shapes)) > 1:
        raise ValueError(f"region types, motion, relevance and uncertainty are of different shapes: {shapes}")
    masks = _masks(region_types)
    of_tau_d = {
        "downsampled_regions": masks.sum(axis=(1, 2), dtype=np.float64),
        "downsampled_motion": (masks * motion.region_motion.astype(np.float64)).sum(axis=(1, 2)),
        "downsampled_uncertainty": (masks * uncertainty).sum(axis=(1, 2)),
    }
    of_frame = {
        "frame_motion": motion.frame_motion,
        "relevance_mean": relevance.mean(),
        "relevance_std": relevance.std(),
        "uncertainty": uncertainty.sum(),
    }
    return CandidateFeatures(
        {name: getattr(candidates, name).astype(np.float64) for name in ("tau_d", "quality", "restoration_point")}
        | {name: values[candidates.tau_d] for name, values in of_tau_d.items()}
        | {name: np.full(len(candidates), value) for name, value in of_frame.items()}
    )
