"""Motion of boxes from the motion of points in them: Median Flow (Kalal et al. 2010)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def grid_points(boxes_xyxy: NDArray[np.float32], grid: int, coverage: float) -> NDArray[np.float32]:
    """A grid x grid lattice centred in each box: float32 (N, grid * grid, 2) as x, y."""
    offsets = np.linspace(-coverage / 2, coverage / 2, grid, dtype=np.float32)
    lattice = np.stack(np.meshgrid(offsets, offsets), axis=-1).reshape(1, -1, 2)
    centres = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
    sizes = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    return np.ascontiguousarray(centres[:, None] + lattice * sizes[:, None], np.float32)


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
    shift = _masked_median(moved_points - points, good[..., None])  # (N, 2)
    first, second = np.triu_indices(points.shape[1])
    # Distances between the points of each pair, before and after: (N, P * (P + 1) / 2), 0 of a point and itself.
    before = np.linalg.norm(points[:, first] - points[:, second], axis=-1)
    after = np.linalg.norm(moved_points[:, first] - moved_points[:, second], axis=-1)
    pairs = good[:, first] & good[:, second] & (before > 0)
    ratio = np.divide(after, before, out=np.ones_like(after), where=before > 0)
    scale = _masked_median(ratio[..., None], pairs[..., None], default=1.0)  # (N, 1)
    centres = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2 + shift
    half = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]) / 2 * scale
    return np.concatenate([centres - half, centres + half], axis=1).astype(np.float32)


def visible_share(boxes_xyxy: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Share of each box's area inside an image of `size` (width, height): float32 (N,)."""
    limit = np.asarray([*size, *size], np.float32)
    clipped = np.clip(boxes_xyxy, 0, limit)
    area = np.prod(np.maximum(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], 1e-6), axis=1)
    return np.asarray(np.prod(clipped[:, 2:] - clipped[:, :2], axis=1) / area, np.float32)


def _masked_median(values: NDArray, mask: NDArray, default: float = 0.0) -> NDArray:
    """Median over axis 1 of the masked values: (N, K, C) -> (N, C), `default` where nothing is masked in."""
    ordered = np.sort(np.where(mask, values, np.inf), axis=1)
    count = np.broadcast_to(mask, values.shape).sum(axis=1)  # (N, C)
    low = np.take_along_axis(ordered, np.maximum(count - 1, 0)[:, None] // 2, axis=1)[:, 0]
    high = np.take_along_axis(ordered, np.minimum(count // 2, values.shape[1] - 1)[:, None], axis=1)[:, 0]
    return np.where(count > 0, (np.where(count > 0, low, 0) + np.where(count > 0, high, 0)) / 2, default)
