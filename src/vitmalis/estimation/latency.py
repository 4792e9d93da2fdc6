"""Latency tables of one device, server and model, and the estimate made from them (paper, equation 2)."""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from vitmalis.errors import UserError
from vitmalis.estimation.features import Candidates
from vitmalis.estimation.stage_times import StageTimes
from vitmalis.paths import atomic_path
from vitmalis.untrusted_files import decode_json

FloatArray = NDArray[np.float64]

VERSION = 2
"""Version of the file format; files of another version are refused."""


class LatencyTablesMissing(UserError):
    """A policy needs latency tables and was given none; a caller that can measure them may do so and try again."""


class EncodeTable(msgspec.Struct, kw_only=True, frozen=True, dict=True, forbid_unknown_fields=True):
    """T^enc(N_d, lambda): packing and JPEG encoding on the device.

    Attributes:
        downsampled_regions: rows of the table, ascending.
        qualities: columns of the table, ascending.
        encode_s: seconds, one row per `downsampled_regions`.

    Raises:
        ValueError: rows or columns are not ascending, or values are missing, negative or not finite.
    """

    downsampled_regions: tuple[int, ...]
    qualities: tuple[int, ...]
    encode_s: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        for name in ("downsampled_regions", "qualities"):
            knots = getattr(self, name)
            if not knots or any(b <= a for a, b in pairwise(knots)):
                raise ValueError(f"{name} {knots} must be ascending and not empty")
        shape = (len(self.downsampled_regions), len(self.qualities))
        if len(self.encode_s) != shape[0] or any(len(row) != shape[1] for row in self.encode_s):
            raise ValueError(f"encode_s must have {shape[0]} rows of {shape[1]} values")
        if not all(0 <= value < np.inf for row in self.encode_s for value in row):
            raise ValueError("encode_s must be finite and not negative")

    @cached_property
    def _table(self) -> FloatArray:
        return np.array(self.encode_s, np.float64)

    def at(self, downsampled_regions: ArrayLike, quality: ArrayLike) -> FloatArray:
        """Encoding times (n,) in seconds: bilinear interpolation, constant beyond the edges."""
        table = self._table
        rows, row_share = _between(self.downsampled_regions, downsampled_regions)
        cols, col_share = _between(self.qualities, quality)
        next_rows, next_cols = np.minimum(rows + 1, len(table) - 1), np.minimum(cols + 1, table.shape[1] - 1)
        above = table[rows, cols] * (1 - col_share) + table[rows, next_cols] * col_share
        below = table[next_rows, cols] * (1 - col_share) + table[next_rows, next_cols] * col_share
        return above * (1 - row_share) + below * row_share


class InferenceFit(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """LM^inf of one restoration point: seconds = intercept_s + slope_s * N_d.

    Attributes:
        restoration_point: beta.
        intercept_s: inference without downsampled regions.
        slope_s: change per downsampled region, usually negative.
        r2: coefficient of determination of the fit.
        residual_s: root mean square error of the line.
        largest_residual_s: largest absolute error.
        samples: points that were fitted.
    """

    restoration_point: int
    intercept_s: float
    slope_s: float
    r2: float
    residual_s: float
    largest_residual_s: float
    samples: int

    @classmethod
    def through(cls, restoration_point: int, downsampled_regions: ArrayLike, seconds: ArrayLike) -> InferenceFit:
        """Fit by least squares (paper, section IV-C).

        Args:
            restoration_point: beta.
            downsampled_regions: N_d (n,), at least two different.
            seconds: inference (n,).
        """
        counts, values = np.asarray(downsampled_regions, np.float64), np.asarray(seconds, np.float64)
        slope, intercept = np.polyfit(counts, values, 1)
        misses = values - (intercept + slope * counts)
        spread = float(((values - values.mean()) ** 2).sum())
        return cls(
            restoration_point=restoration_point,
            intercept_s=float(intercept),
            slope_s=float(slope),
            r2=1 - float((misses**2).sum()) / spread if spread > 1e-18 else 1.0,  # equal values fit up to rounding
            residual_s=float(np.sqrt((misses**2).mean())),
            largest_residual_s=float(np.abs(misses).max()),
            samples=len(counts),
        )


class LatencyTables(msgspec.Struct, kw_only=True, frozen=True, dict=True, forbid_unknown_fields=True):
    """Measured durations of one device, one server and one model; made by `python -m profiling.latency`.

    Attributes:
        device, server: names of the two hosts.
        model, model_id: the detector.
        width_px, height_px: the frames that were measured.
        regions: decision regions of such a frame.
        window, downsampling_factor: w and d of these regions; older tables do not say w (None), and have d = 2.
        encode: table of encoding times.
        decode_s: mean of decoding and unpacking.
        inference: one fit per restoration point.
        stages: durations of everything else in a run; None in tables that were made for estimating only.
        host: facts of the machine(s) and of the measurement; free form.
        version: of the file format.

    Raises:
        ValueError: restoration points are missing, negative or repeated, or `decode_s` is negative or not finite.
    """

    device: str
    server: str
    model: str
    model_id: str
    width_px: int
    height_px: int
    regions: int
    window: int | None = None
    downsampling_factor: int = 2
    encode: EncodeTable
    decode_s: float
    inference: tuple[InferenceFit, ...]
    stages: StageTimes | None = None
    host: dict[str, Any] = {}
    version: int = VERSION

    def __post_init__(self) -> None:
        points = [fit.restoration_point for fit in self.inference]
        if not points or min(points) < 0 or len(set(points)) != len(points):
            raise ValueError(f"restoration points {points} must be there, different and not negative")
        if not 0 <= self.decode_s < np.inf:
            raise ValueError(f"decode_s {self.decode_s} must be finite and not negative")

    @cached_property
    def _lines(self) -> FloatArray:
        """Intercept and slope by restoration point, NaN where none was measured: (points, 2)."""
        lines = np.full((max(fit.restoration_point for fit in self.inference) + 1, 2), np.nan)
        for fit in self.inference:
            lines[fit.restoration_point] = fit.intercept_s, fit.slope_s
        return lines

    def check_geometry(self, window: int | None, downsampling_factor: int, source: str) -> None:
        """Check that these tables are of such regions; a window that is not known (None) fits any.

        Raises:
            UserError: they are not; `source` is the option that named the tables.
        """
        windows = {self.window, window} - {None}
        if len(windows) > 1 or self.downsampling_factor != downsampling_factor:
            raise UserError(
                f"{source}: measured with window {self.window} and downsampling factor {self.downsampling_factor}, "
                f"this run has {window} and {downsampling_factor}; measure again with `python -m profiling.latency`"
            )

    def encode_s(self, downsampled_regions: ArrayLike, quality: ArrayLike) -> FloatArray:
        """Encoding time T^enc of each configuration, seconds (n,)."""
        return self.encode.at(downsampled_regions, quality)

    def inference_s(
        self, downsampled_regions: ArrayLike, restoration_point: ArrayLike, cached_regions: ArrayLike = 0
    ) -> FloatArray:
        """Inference time LM^inf of each configuration, seconds (n,), never below 0.

        A region at low resolution saves 1 - 1/d^2 of its tokens before the restoration point, a cached one saves all of
        them: it counts as d^2 / (d^2 - 1) low ones (docs/field.md says how far that is off).

        Raises:
            UserError: a restoration point that was not measured.
        """
        points = np.asarray(restoration_point)
        known = (points >= 0) & (points < len(self._lines))
        intercept, slope = self._lines[np.where(known, points, 0)].T
        if not known.all() or np.isnan(intercept).any():
            measured = sorted(fit.restoration_point for fit in self.inference)
            raise UserError(
                f"latency tables of {self.model} have restoration points {measured}, not all of "
                f"{sorted(set(points.ravel().tolist()))}; measure again with `python -m profiling.latency`"
            )
        area = self.downsampling_factor**2
        regions = np.asarray(downsampled_regions, np.float64) + np.asarray(cached_regions) * area / max(area - 1, 1)
        return np.maximum(intercept + slope * regions, 0.0)


def e2e_latency_s(
    tables: LatencyTables,
    candidates: Candidates,
    downsampled_regions: ArrayLike,
    payload_bytes: ArrayLike,
    uplink_mbps: float,
    rtt_s: float,
    queue_s: float = 0.0,
    cached_regions: ArrayLike = 0,
) -> FloatArray:
    """Equation 2: encoding, upload, decoding, inference and propagation of every candidate, seconds (n,).

    The paper's server has one client; waiting for others, or for one's own earlier offload, is added to its sum.

    Args:
        tables: measured durations.
        candidates: n configurations.
        downsampled_regions: N_d (n,).
        payload_bytes: estimated sizes (n,).
        uplink_mbps: throughput expected, positive.
        rtt_s: propagation both ways, L^net.
        queue_s: waiting at the server.
        cached_regions: how many regions take their tokens from an earlier frame (n,); packing without them takes as
            long as with low ones in their place.

    Raises:
        UserError: a restoration point that was not measured.
        ValueError: the throughput is not positive.
    """
    if not uplink_mbps > 0:
        raise ValueError(f"uplink_mbps must be positive, not {uplink_mbps}")
    upload_s = np.asarray(payload_bytes, np.float64) * (8e-6 / uplink_mbps)
    return (
        tables.encode_s(np.add(downsampled_regions, cached_regions), candidates.quality)
        + upload_s
        + queue_s
        + tables.decode_s
        + tables.inference_s(downsampled_regions, candidates.restoration_point, cached_regions)
        + rtt_s
    )


def save_latency_tables(tables: LatencyTables, path: Path) -> None:
    """Write latency tables to a JSON file."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(tables), indent=1) + b"\n")


def load_latency_tables(path: Path) -> LatencyTables:
    """Read latency tables from a JSON file.

    Raises:
        UserError: no such file, or one of another version, or damaged.
    """
    advice = "measure again with `python -m profiling.latency`"
    if not path.is_file():
        raise UserError(f"{path}: there are no such latency tables; {advice}")
    data = path.read_bytes()
    try:
        version = decode_json(data, _Header).version
        if version != VERSION:
            raise UserError(f"{path} has version {version}, this program reads {VERSION}; {advice}")
        return decode_json(data, LatencyTables)
    except msgspec.DecodeError as error:
        raise UserError(f"{path} does not hold latency tables ({error}); {advice}") from error


class _Header(msgspec.Struct):
    """The field that is read first, so that errors name a wrong version as such."""

    version: int


def _between(knots: tuple[int, ...], values: ArrayLike) -> tuple[NDArray[np.int64], FloatArray]:
    """Index of the knot at or before each value, and the share of the way to the next."""
    place = np.interp(np.asarray(values, np.float64), knots, np.arange(len(knots)))
    index = place.astype(np.int64)
    return index, place - index
