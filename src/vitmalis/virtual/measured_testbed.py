"""Latency tables of a testbed whose server was measured: the paper's Jetson Orin Nano offloads to an NVIDIA H200.

A server's table (`h200.json`) has the times of 1080p frames by model, share of downsampled regions and restoration
point. What was measured is used as it is; everything else follows from it by three rules:

- Backbone: a share, restoration point, factor or frame size that was not measured lies on the model's own line through
  its measured times over FLOPs, as the paper's figures are treated (`vitmalis.virtual.testbed`).
- Other parts of the detector (copies, indices, pyramid, head): measured as the whole detector less the backbone, and
  interpolated linearly over the share. They do not depend on the restoration point. A model without such measurements
  takes those of the other models in the table, which is an upper bound. A smaller frame takes its share of the FLOPs of
  pyramid and head.
- Restoration point 0 has every token at full resolution, so it takes the time of a plain frame.

The device, the codec and decoding on the server are the paper's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from importlib.resources import files
from pathlib import Path

import msgspec
import numpy as np

from vitmalis.detector.config import DetectorConfig, preset
from vitmalis.detector.flops import rcnn_flops, vit_cost
from vitmalis.errors import UserError
from vitmalis.estimation.latency import InferenceFit, LatencyTables
from vitmalis.regions.grid import RegionGrid
from vitmalis.types import BoolMask
from vitmalis.virtual.testbed import SHARES, downsampled_size, drawn_masks, jetson_tables

H200 = Path(str(files("vitmalis.virtual"))) / "h200.json"


class MeasuredTime(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Times of one share of downsampled regions and restoration point.

    Attributes:
        share: of the regions of a frame.
        restoration_point: beta; of no meaning for share 0.
        flop_ratio: floating-point operations of the backbone relative to those of a plain frame.
        backbone_ms: time of the backbone.
        detector_ms: time of the whole detector, from pixels to boxes on the host; None where it was not measured.
    """

    share: float
    restoration_point: int
    flop_ratio: float
    backbone_ms: float
    detector_ms: float | None = None


class ServerTable(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Inference times of one server, with their provenance.

    Attributes:
        card: name of the GPU.
        date: of the measurement, ISO 8601.
        torch: version of PyTorch.
        precision: of the models.
        code: what was measured.
        width_px, height_px: of the frames.
        window, downsampling_factor: w and d of their regions.
        notes: what was not measured, and what else a reader has to know.
        models: times of each model, the plain frame first.
    """

    card: str
    date: str
    torch: str
    precision: str
    code: str
    width_px: int
    height_px: int
    window: int
    downsampling_factor: int
    notes: tuple[str, ...]
    models: dict[str, tuple[MeasuredTime, ...]]


@lru_cache(maxsize=1)
def h200_table() -> ServerTable:
    """Read the table of the H200 that comes with the package."""
    return msgspec.json.decode(H200.read_bytes(), type=ServerTable)


class ModelTimes:
    """Inference times of one model of a server's table, for any share, restoration point, factor and frame size.

    Args:
        table: of the server.
        model: one of its models.
        factor: d of the regions; the table's own where None.

    Raises:
        UserError: the table does not have the model.
    """

    def __init__(self, table: ServerTable, model: str, factor: int | None = None) -> None:
        if model not in table.models:
            raise UserError(
                f"latency.model={model}: the {table.card} was measured with {' and '.join(table.models)}; choose one"
            )
        self._rows = table.models[model]
        self._size = table.height_px, table.width_px
        factor = table.downsampling_factor if factor is None else factor
        self._config: DetectorConfig = preset(model).with_geometry(table.window, factor)
        self._own_factor = factor == table.downsampling_factor
        self._other_parts = _other_parts(self._rows) or _other_parts(
            [row for rows in table.models.values() for row in rows]
        )

    @cached_property
    def flop_line(self) -> InferenceFit:
        """The model's line of backbone time over FLOPs: seconds by `flop_ratio` in the place of N_d."""
        ratios, ms = zip(*((row.flop_ratio, row.backbone_ms) for row in self._rows), strict=True)
        return InferenceFit.through(0, ratios, 1e-3 * np.array(ms))

    def backbone_s(self, share: float, point: int) -> float:
        """Backbone time of a frame of the measured size, seconds: as measured, or from the line over FLOPs."""
        if share == 0 or point == 0:
            return 1e-3 * next(row.backbone_ms for row in self._rows if row.share == 0)
        for row in self._rows if self._own_factor else ():
            if (row.share, row.restoration_point) == (share, point):
                return 1e-3 * row.backbone_ms
        draws = np.random.default_rng(point)
        masks = drawn_masks(self._config.region_grid(*self._size).shape, share, draws)
        return self._on_line(float(np.mean([self._flops(self._size, mask, point) for mask in masks])))

    def inference_s(self, share: float, point: int) -> float:
        """Time of the whole detector for a frame of the measured size, seconds."""
        return self.backbone_s(share, point) + self._other_parts_s(share if point else 0.0)

    def downsampled_s(self) -> float:
        """Time of the whole detector for a frame that is smaller by the factor, seconds."""
        small = downsampled_size(self._size, self._config.downsampling_factor)
        part, whole = (rcnn_flops(self._config, self._config.region_grid(*size)) for size in (small, self._size))
        return self._on_line(self._flops(small)) + self._other_parts_s(0.0) * part / whole

    def fit(self, point: int, regions: int) -> InferenceFit:
        """Fit LM_inf of a restoration point over the regions of some frame, of which equal shares are downsampled."""
        return self._fit(self.inference_s, point, regions)

    def backbone_fit(self, point: int, regions: int) -> InferenceFit:
        """Fit the backbone alone; it says how much of what LM_inf misses lies in the other parts."""
        return self._fit(self.backbone_s, point, regions)

    def _fit(self, seconds: Callable[[float, int], float], point: int, regions: int) -> InferenceFit:
        return InferenceFit.through(point, np.array(SHARES) * regions, [seconds(share, point) for share in SHARES])

    def _on_line(self, flops: float) -> float:
        line = self.flop_line
        return line.intercept_s + line.slope_s * flops / self._flops(self._size)

    def _flops(self, size: tuple[int, int], mask: BoolMask | None = None, point: int = 0) -> int:
        return vit_cost(self._config.vit, self._config.region_grid(*size), mask, point).flops

    def _other_parts_s(self, share: float) -> float:
        shares, ms = np.array(sorted(self._other_parts.items())).T
        return 1e-3 * float(np.interp(share, shares, ms))


def _other_parts(rows: Sequence[MeasuredTime]) -> dict[float, float]:
    """Time of everything but the backbone, ms, by share; the mean where several points of a share were measured."""
    found: dict[float, list[float]] = {}
    for row in rows:
        if row.detector_ms is not None:
            found.setdefault(row.share, []).append(row.detector_ms - row.backbone_ms)
    return {share: float(np.mean(ms)) for share, ms in found.items()}


def measured_testbed(
    table: ServerTable, measured_model: str, model_id: str, model: str, grid: RegionGrid, restoration_points: int
) -> LatencyTables:
    """Build latency tables of the paper's device and a measured server, for a run with other frames and another model.

    Args:
        table: of the server.
        measured_model: model of the table whose times are used.
        model_id, model: the run's detector, which stands for the measured one.
        grid: decision regions of the run's frames.
        restoration_points: N of the run's detector.

    Raises:
        UserError: the table does not have the model.
    """
    times = ModelTimes(table, measured_model, grid.factor)
    regions = grid.region_patches.size
    provenance = {name: getattr(table, name) for name in ("card", "date", "torch", "precision", "code", "notes")}
    return jetson_tables(
        model_id,
        model,
        grid,
        server=f"{table.card} ({measured_model}, {table.precision}, {table.code})",
        inference=tuple(times.fit(point, regions) for point in range(restoration_points + 1)),
        full_s=times.inference_s(0.0, 0),
        downsampled_s=times.downsampled_s(),
        host={"source": "see vitmalis.virtual.measured_testbed", "measured_model": measured_model} | provenance,
    )
