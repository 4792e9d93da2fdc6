"""Sets of profiling samples: read from files, selected by clip and part, and cut into folds by time."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vitmalis.errors import UserError
from vitmalis.estimation.estimators import FEATURES, Target
from vitmalis.tables.parquet import read_parquet
from vitmalis.untrusted_files import damage_reported

COLUMNS = (
    "clip", "part", "frame_index", "tau_d", "quality", "restoration_point", "downsampled_regions",
    "downsampled_motion", "frame_motion", "relevance_mean", "relevance_std", "payload_bytes", "f1",
)  # fmt: skip
"""Columns of a sample that are used; files of `python -m profiling.samples` have more."""

_MAKE_AGAIN = "make it again with `python -m profiling.samples`"

PROFILE, EVAL = "profile", "eval"


def read_samples(folder: Path) -> pd.DataFrame:
    """Read all samples in the Parquet files of a folder, ordered by clip, part and frame.

    Raises:
        UserError: no files, a column missing, or a value that is not a number.
    """
    files = sorted(folder.glob("*.parquet"))
    if not files:
        raise UserError(f"{folder} has no samples (*.parquet); make them with `python -m profiling.samples`")
    tables = []
    for file in files:
        with damage_reported(f"samples {file}", _MAKE_AGAIN):
            table = read_parquet(file, COLUMNS).to_pandas()
        if missing := [name for name in COLUMNS if name not in table]:
            raise UserError(f"{file} lacks {', '.join(missing)}; {_MAKE_AGAIN}")
        tables.append(table[list(COLUMNS)])
    samples = pd.concat(tables, ignore_index=True)
    with damage_reported(f"samples of {folder}", _MAKE_AGAIN):
        numbers = samples[list(COLUMNS[2:])].to_numpy(np.float64)
    if not np.isfinite(numbers).all():
        row = int(np.argmin(np.isfinite(numbers).all(axis=1)))
        raise UserError(f"{folder}: clip '{samples['clip'][row]}' has a sample that is not a number; make it again")
    return samples.sort_values(["clip", "part", "frame_index"], kind="stable", ignore_index=True)


@dataclass(frozen=True, eq=False)
class SampleSet:
    """Samples of one target: a row for each frame and configuration.

    Attributes:
        target: "payload_bytes" or "f1".
        features: float64 (n, F), columns as in `FEATURES[target]`.
        values: float64 (n,), the true values of the target.
        clips: str (n,), the clip of each row.
        parts: str (n,), "profile" or "eval".
        frame_index: int64 (n,), the frame of each row in its part of the clip.
    """

    target: Target
    features: NDArray[np.float64]
    values: NDArray[np.float64]
    clips: NDArray[np.str_]
    parts: NDArray[np.str_]
    frame_index: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.values)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns of `features`."""
        return FEATURES[self.target]

    @property
    def frames(self) -> int:
        """Number of distinct frames among the rows."""
        return len(set(zip(self.clips, self.parts, self.frame_index, strict=True)))

    def select(self, rows: NDArray) -> SampleSet:
        """Rows chosen by a bool mask (n,) or by indices."""
        return SampleSet(
            self.target, self.features[rows], self.values[rows], self.clips[rows], self.parts[rows],
            self.frame_index[rows],
        )  # fmt: skip

    def matching_clips(self, patterns: tuple[str, ...] = ("*",)) -> NDArray[np.bool_]:
        """Rows of clips whose name matches a pattern such as `walk*`: bool (n,)."""
        chosen = [clip for clip in np.unique(self.clips) if any(fnmatchcase(clip, pattern) for pattern in patterns)]
        return np.isin(self.clips, chosen)


def sample_set(samples: pd.DataFrame, target: Target) -> SampleSet:
    """The samples of a target without repetitions.

    The payload does not depend on the restoration point, so that one row per frame, tau_d and quality is kept for it.
    """
    if target == "payload_bytes":
        samples = samples.drop_duplicates(["clip", "part", "frame_index", "tau_d", "quality"])
    return SampleSet(
        target,
        samples[list(FEATURES[target])].to_numpy(np.float64),
        samples[target].to_numpy(np.float64),
        samples["clip"].to_numpy(np.str_),
        samples["part"].to_numpy(np.str_),
        samples["frame_index"].to_numpy(np.int64),
    )


def digest_of(rows: SampleSet) -> str:
    """Digest of the samples: eight hexadecimal digits."""
    hashed = hashlib.sha256(np.ascontiguousarray(rows.features).tobytes())
    hashed.update(rows.values.tobytes())
    hashed.update("\n".join(rows.clips).encode())
    return hashed.hexdigest()[:8]


def time_folds(rows: SampleSet, folds: int) -> list[NDArray[np.bool_]]:
    """Cut every clip's frames into consecutive blocks: fold k validates on the k-th block of each clip, bool (n,).

    Blocks instead of single frames, as consecutive frames look alike; all configurations of a frame stay together.

    Raises:
        UserError: a fold would be empty or hold everything.
    """
    block = np.zeros(len(rows), np.int64)
    for clip in np.unique(rows.clips):
        own = rows.clips == clip
        _, order = np.unique(rows.frame_index[own], return_inverse=True)
        block[own] = order * folds // (order.max() + 1)
    masks = [block == fold for fold in range(folds)]
    if folds < 2 or not all(mask.any() for mask in masks):
        raise UserError(f"search.folds={folds}: give at least 2, and at most the sampled frames of the longest clip")
    return masks
