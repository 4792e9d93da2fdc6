"""Region types, and what each downsampling type does with them (paper, section IV-B): pure functions on arrays."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from vitmalis.errors import UserError
from vitmalis.instance_masks import MASK_SIDE, MASK_THRESHOLD, Masks
from vitmalis.regions.grid import RegionGrid
from vitmalis.types import BoolMask, Detections

MOTION_THRESHOLD = 0.001
"""delta^m of the paper: a region with less of the frame's foreground is static."""

RELEVANCE_THRESHOLD = 0.0
"""delta^rho of the paper: a moving region with any object in it is a dynamic object region."""


class RegionType(IntEnum):
    """What a decision region shows."""

    SBR = 0
    """Static background: hardly moves, whatever is in it."""

    CMR = 1
    """Camera-induced motion: moves, without objects."""

    DOR = 2
    """Dynamic objects: moves, with objects; never downsampled."""


DOWNSAMPLED_TYPES: dict[int, tuple[RegionType, ...]] = {
    0: (),
    1: (RegionType.CMR,),
    2: (RegionType.CMR, RegionType.SBR),
}
"""Which region types each tau_d downsamples."""

_IS_DOWNSAMPLED = {
    tau_d: np.array([region_type in types for region_type in RegionType]) for tau_d, types in DOWNSAMPLED_TYPES.items()
}
"""Whether a region type is downsampled, bool by `RegionType`."""


def task_relevance(grid: RegionGrid, detections: Detections) -> NDArray[np.float64]:
    """rho_j: share of the objects whose boxes, or masks where they have some, overlap region j.

    Objects count inside the frame only, and touching a region's edge is no overlap. An object may count in several
    regions, so that the shares need not sum to 1. A mask is a grid of cells in its box, and overlaps what one of its
    object's cells overlaps.

    Returns:
        float64 (rows, cols), 0..1; all 0 without objects.
    """
    if not len(detections):
        return np.zeros(grid.shape)
    x0, y0, x1, y1 = detections.boxes_xyxy.T.astype(np.float64)  # each (N,)
    if detections.masks is not None:
        (x0, x1), (y0, y1) = _cells(x0, x1), _cells(y0, y1)
    overlapped_rows, overlapped_cols = ((side > 0).astype(np.float64) for side in _lengths(grid, x0, y0, x1, y1))
    if detections.masks is not None:
        return _overlapped_by_masks(detections.masks, overlapped_rows, overlapped_cols) / len(detections)
    return overlapped_rows @ overlapped_cols.T / len(detections)


def region_uncertainty(grid: RegionGrid, detections: Detections) -> NDArray[np.float64]:
    """u_j: what region j holds of the objects' mean uncertainty, 1 - score.

    An object's uncertainty is spread over the regions by the area of its box in them, so that u_j adds up to the mean
    over objects. What lies outside the frame does not count. Not in the paper.

    Returns:
        float64 (rows, cols), 0..1; all 0 without objects.
    """
    if not len(detections):
        return np.zeros(grid.shape)
    heights, widths = _lengths(grid, *detections.boxes_xyxy.T.astype(np.float64))
    areas = heights.sum(axis=0) * widths.sum(axis=0)
    uncertain = (1.0 - detections.scores) / np.maximum(areas, 1e-9)
    return (heights * uncertain) @ widths.T / len(detections)


def _cells(starts: NDArray[np.float64], ends: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Starts and ends of the rows or columns of the masks in boxes, (N * MASK_SIDE,) each."""
    edges = starts[:, None] + (ends - starts)[:, None] * np.arange(MASK_SIDE + 1) / MASK_SIDE
    return edges[:, :-1].ravel(), edges[:, 1:].ravel()


def _overlapped_by_masks(
    masks: Masks, overlapped_rows: NDArray[np.float64], overlapped_cols: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How many masks overlap each region, (rows, cols).

    Args:
        masks: (N, MASK_SIDE, MASK_SIDE).
        overlapped_rows, overlapped_cols: 1 where a row or column of a mask overlaps one of regions, else 0: (rows or
            cols, N * MASK_SIDE).
    """
    down = overlapped_rows.reshape(-1, len(masks), MASK_SIDE).transpose(1, 0, 2)
    across = overlapped_cols.reshape(-1, len(masks), MASK_SIDE).transpose(1, 2, 0)
    cells = down @ (masks >= MASK_THRESHOLD).astype(np.float64) @ across  # (N, rows, cols)
    return (cells > 0).sum(axis=0, dtype=np.float64)


def _lengths(
    grid: RegionGrid,
    x0: NDArray[np.float64],
    y0: NDArray[np.float64],
    x1: NDArray[np.float64],
    y1: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Heights and widths of boxes, (N,) each, in the rows and the columns of regions inside the frame, pixels.

    Returns:
        (rows, N) and (cols, N).
    """
    rows, cols = grid.shape

    def along(
        count: int, length_px: int, starts: NDArray[np.float64], ends: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        start = np.arange(0, count * grid.side_px, grid.side_px)[:, None]
        end = np.minimum(start + grid.side_px, length_px)
        return np.maximum(np.minimum(end, ends) - np.maximum(start, starts), 0.0)

    return along(rows, grid.height_px, y0, y1), along(cols, grid.width_px, x0, x1)


def classify(
    region_motion: NDArray[np.floating],
    relevance: NDArray[np.floating],
    motion_threshold: float = MOTION_THRESHOLD,
    relevance_threshold: float = RELEVANCE_THRESHOLD,
) -> NDArray[np.int8]:
    """Type of each region. As in the paper, motion decides before relevance.

    A region whose objects and background both stand still is therefore an SBR, which tau_d = 2
    downsamples with its objects. A moving camera leaves few such regions.

    Args:
        region_motion: m_j, (rows, cols).
        relevance: rho_j, (rows, cols).
        motion_threshold: delta^m; below it a region is an SBR.
        relevance_threshold: delta^rho; above it a moving region is a DOR.

    Returns:
        int8 (rows, cols) of `RegionType`.
    """
    moving = np.where(relevance > relevance_threshold, RegionType.DOR, RegionType.CMR)
    return np.where(region_motion < motion_threshold, RegionType.SBR, moving).astype(np.int8)


def downsample_mask(region_types: NDArray[np.int8], tau_d: int) -> BoolMask:
    """B = f_tau(phi): bool (rows, cols), True where tau_d asks for low resolution.

    Args:
        region_types: int8 (rows, cols) of `RegionType`.
        tau_d: 0 downsamples nothing, 1 CMRs, 2 CMRs and SBRs.

    Raises:
        UserError: another tau_d.
    """
    if tau_d not in DOWNSAMPLED_TYPES:
        raise UserError(f"tau_d must be one of {', '.join(map(str, DOWNSAMPLED_TYPES))}, not {tau_d}")
    return _IS_DOWNSAMPLED[tau_d][region_types]
