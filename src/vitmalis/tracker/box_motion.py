"""Motion of boxes from the motion of points in them: Median Flow (Kalal et al. 2010)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


def grid_points(boxes_xyxy: NDArray[np.float32], grid: int, coverage: float) -> NDArray[np.float32]:
    """A grid x grid lattice centred in each box: float32 (N, grid * grid, 2) as x, y."""
    centres = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
    sizes = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    return np.ascontiguousarray(centres[:, None] + _lattice(grid, coverage) * sizes[:, None], np.float32)


def move_boxes(
    boxes_xyxy: NDArray[np.float32],
    points: NDArray[np.float32],
    moved_points: NDArray[np.float32],
    good: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """Shift each box by the median motion of its good points and scale it by the median change of their distances.

    Args:
        boxes_xyxy: (N, 4). points, moved_points: (N, P, 2). good: bool (N, P).

    Returns:
        float32 (N, 4); boxes without a good point stay.
    """
    motion = moved_points - points
    shift = np.stack([_masked_median(motion[..., axis], good) for axis in (0, 1)], axis=1)  # (N, 2)
    first, second = _pairs(points.shape[1])
    before, after = _distances(points, first, second), _distances(moved_points, first, second)
    ratio = np.divide(after, before, out=np.ones_like(after), where=before > 0)
    measured = good[:, first] & good[:, second] & (before > 0)
    scale = _masked_median(ratio, measured, default=1.0)[:, None]  # (N, 1)
    centres = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2 + shift
    half = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]) / 2 * scale
    return np.concatenate([centres - half, centres + half], axis=1).astype(np.float32)


def visible_share(boxes_xyxy: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Share of each box's area inside an image of `size` (width, height): float32 (N,)."""
    limit = np.asarray([*size, *size], np.float32)
    clipped = np.clip(boxes_xyxy, 0, limit)
    area = np.prod(np.maximum(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], 1e-6), axis=1)
    return np.asarray(np.prod(clipped[:, 2:] - clipped[:, :2], axis=1) / area, np.float32)


@lru_cache(maxsize=16)
def _lattice(grid: int, coverage: float) -> NDArray[np.float32]:
    """A grid x grid lattice in a box of side 1 around the origin: float32 (grid * grid, 2) as x, y."""
    offsets = np.linspace(-coverage / 2, coverage / 2, grid, dtype=np.float32)
    return np.stack(np.meshgrid(offsets, offsets), axis=-1).reshape(-1, 2)


@lru_cache(maxsize=16)
def _pairs(points: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices of the two points of each pair of `points`, those of a point and itself among them."""
    first, second = np.triu_indices(points)
    return first, second


def _distances(points: NDArray[np.float32], first: NDArray[np.intp], second: NDArray[np.intp]) -> NDArray[np.float32]:
    """Distances between the points (N, P, 2) of K pairs: (N, K)."""
    squares = np.square(points[:, first] - points[:, second])
    return np.asarray(np.sqrt(squares[..., 0] + squares[..., 1]), np.float32)


def _masked_median(values: NDArray, mask: NDArray[np.bool_], default: float = 0.0) -> NDArray:
    """Median of the masked values of each row: (N, K) -> (N,), `default` where nothing is masked in."""
    ordered = np.sort(np.where(mask, values, np.inf), axis=1)
    rows, count = np.arange(len(values)), mask.sum(axis=1)
    low = ordered[rows, np.maximum(count - 1, 0) // 2]
    high = ordered[rows, np.minimum(count // 2, values.shape[1] - 1)]
    return np.where(count > 0, (np.where(count > 0, low, 0) + np.where(count > 0, high, 0)) / 2, default)
