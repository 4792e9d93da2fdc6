"""Sets of profiling samples: read from files, selected by clip and part, and divided into folds by clip."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vitmalis.errors import UserError
from vitmalis.estimation.estimators import FEATURES, Estimator, Target
from vitmalis.estimation.features import REFERENCE
from vitmalis.tables.parquet import read_parquet
from vitmalis.untrusted_files import damage_reported

FloatArray = NDArray[np.float64]

COLUMNS = (
    "clip", "part", "moments", "frame_index", "tau_d", "quality", "restoration_point", "regions", "downsampled_regions",
    "downsampled_motion", "frame_motion", "relevance_mean", "relevance_std", "uncertainty", "downsampled_uncertainty",
    "payload_bytes", "f1", "tp", "fp", "fn",
)  # fmt: skip
"""Columns of a sample that are used; files of `python -m profiling.samples` have more."""

FRAME = ["clip", "part", "moments", "frame_index"]
"""Columns that identify a sampled frame: the same image may be sampled at moments of several kinds."""

_REFERENCE = {"tau_d": REFERENCE.tau_d, "quality": REFERENCE.quality}
_REFERENCE_FEATURES = _REFERENCE | dict.fromkeys(
    ("restoration_point", "downsampled_regions", "downsampled_motion", "downsampled_uncertainty"), 0
)

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
        numbers = samples[list(COLUMNS[3:])].to_numpy(np.float64)
    if not np.isfinite(numbers).all():
        row = int(np.argmin(np.isfinite(numbers).all(axis=1)))
        raise UserError(f"{folder}: clip '{samples['clip'][row]}' has a sample that is not a number; make it again")
    return samples.sort_values(FRAME, kind="stable", ignore_index=True)


@dataclass(frozen=True, eq=False, kw_only=True)
class SampleSet:
    """Samples of one target: a row for each frame and configuration.

    Attributes:
        target: "payload_bytes" or "f1".
        names: of the columns of `features`, some or all of `FEATURES[target]`.
        features: float64 (n, F).
        values: float64 (n,), the true values of the target.
        weights: float64 (n,), what a row counts: for the F1 its 2 TP + FP + FN, with which the mean over frames is the
            F1 of all their boxes; 1 for the payload.
        reference: float64 (n,), F1 of `REFERENCE` on the same frame; 0 for the payload.
        clips: str (n,), the clip of each row.
        parts: str (n,), "profile" or "eval".
        frame: int64 (n,), the same number for all rows of a frame and no others; ordered by time within a clip's part.
        payload_bytes: float64 (n,), size of the offload.
        downsampled_share: float64 (n,), share of the frame's regions that are downsampled.
    """

    target: Target
    names: tuple[str, ...]
    features: FloatArray
    values: FloatArray
    weights: FloatArray
    reference: FloatArray
    clips: NDArray[np.str_]
    parts: NDArray[np.str_]
    frame: NDArray[np.int64]
    payload_bytes: FloatArray
    downsampled_share: FloatArray

    def __len__(self) -> int:
        return len(self.values)

    @property
    def frames(self) -> int:
        """Number of distinct frames among the rows."""
        return len(np.unique(self.frame))

    @property
    def relative(self) -> FloatArray:
        """What estimators learn, (n,): values less those of the same frame's reference.

        How difficult a frame is, of which the features know little, is in both and drops out.
        """
        return self.values - self.reference

    def inputs(self, estimator: Estimator) -> FloatArray:
        """The features that an estimator takes, (n, its F)."""
        return self.features[:, [self.names.index(name) for name in estimator.features]]

    def relative_estimate(self, estimator: Estimator) -> FloatArray:
        """An estimator's estimates (n,) less its estimates of the same frames' reference: what a choice is made by."""
        estimate = estimator.predict(self.inputs(estimator))
        if self.target == "payload_bytes":
            return estimate
        reference = self.inputs(estimator)
        for name in _REFERENCE_FEATURES.keys() & set(estimator.features):
            reference[:, estimator.features.index(name)] = _REFERENCE_FEATURES[name]
        return estimate - estimator.predict(reference)

    def level_of(self, fitted: FloatArray) -> float:
        """What to add to fitted relative values (n,), so that their weighted mean is that of the values."""
        return float(np.average(self.values - fitted, weights=self.weights))

    def select(self, rows: NDArray) -> SampleSet:
        """Rows chosen by a bool mask (n,) or by indices."""
        columns = {f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name not in ("target", "names")}
        return replace(self, **columns)

    def with_features(self, names: Sequence[str]) -> SampleSet:
        """The same samples with some of the features only."""
        columns = [self.names.index(name) for name in names]
        return replace(self, names=tuple(names), features=self.features[:, columns])

    def matching_clips(self, patterns: tuple[str, ...] = ("*",)) -> NDArray[np.bool_]:
        """Rows of clips whose name matches a pattern such as `walk*`: bool (n,)."""
        chosen = [clip for clip in np.unique(self.clips) if any(fnmatchcase(clip, pattern) for pattern in patterns)]
        return np.isin(self.clips, chosen)


def sample_set(samples: pd.DataFrame, target: Target) -> SampleSet:
    """The samples of a target without repetitions.

    The payload does not depend on the restoration point, so that one row per frame, tau_d and quality is kept for it.
    Frames without a box, detected or referenced, have nothing to say about the F1 and are left out of its samples.

    Raises:
        UserError: a frame without a sample of `REFERENCE`.
    """
    boxes = (2 * samples["tp"] + samples["fp"] + samples["fn"]).to_numpy(np.float64)
    if target == "payload_bytes":
        samples = samples.drop_duplicates([*FRAME, "tau_d", "quality"])
        weights, reference = np.ones(len(samples)), np.zeros(len(samples))
    else:
        samples, weights = samples[boxes > 0], boxes[boxes > 0]
        reference = _reference(samples)
    return SampleSet(
        target=target,
        names=FEATURES[target],
        features=samples[list(FEATURES[target])].to_numpy(np.float64),
        values=samples[target].to_numpy(np.float64),
        weights=weights,
        reference=reference,
        clips=samples["clip"].to_numpy(np.str_),
        parts=samples["part"].to_numpy(np.str_),
        frame=samples.groupby(FRAME).ngroup().to_numpy().astype(np.int64),
        payload_bytes=samples["payload_bytes"].to_numpy(np.float64),
        downsampled_share=(samples["downsampled_regions"] / samples["regions"]).to_numpy(np.float64),
    )


def _reference(samples: pd.DataFrame) -> FloatArray:
    """F1 of `REFERENCE` on the frame of each sample, (n,)."""
    is_reference = (samples[list(_REFERENCE)] == list(_REFERENCE.values())).all(axis=1)
    own = samples[is_reference].drop_duplicates(FRAME)[[*FRAME, "f1"]]
    found = samples[FRAME].merge(own, "left", FRAME)["f1"].to_numpy(np.float64)
    if np.isnan(found).any():
        clip, *_, frame = samples[FRAME].iloc[int(np.isnan(found).argmax())]
        name = ", ".join(f"{key}={value}" for key, value in _REFERENCE.items())
        raise UserError(f"frame {frame} of clip '{clip}' has no sample with {name}, which others are compared with")
    return found


def digest_of(rows: SampleSet) -> str:
    """Digest of the samples: eight hexadecimal digits."""
    hashed = hashlib.sha256(np.ascontiguousarray(rows.features).tobytes())
    hashed.update(rows.values.tobytes())
    hashed.update(rows.weights.tobytes())
    hashed.update("\n".join(rows.clips).encode())
    return hashed.hexdigest()[:8]


def clip_folds(rows: SampleSet, folds: int) -> list[NDArray[np.bool_]]:
    """Divide the clips among folds: fold k validates on every k-th clip, bool (n,).

    Whole clips, since frames of one clip look alike, and a run plays clips that were never sampled.

    Raises:
        UserError: there are fewer clips than folds.
    """
    names = np.unique(rows.clips)
    if not 2 <= folds <= len(names):
        raise UserError(f"search.folds={folds}: give at least 2, and at most as many as there are clips ({len(names)})")
    return [np.isin(rows.clips, names[fold::folds]) for fold in range(folds)]
