"""What FCOS learns: the object that each cell is matched with, and the losses; nothing waits for results of a GPU."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torchvision.models.detection._utils import BoxLinearCoder
from torchvision.ops import sigmoid_focal_loss

BOX_CODER = BoxLinearCoder(normalize_by_size=True)
BACKGROUND = -1
IGNORED = -2


class LevelGrid(NamedTuple):
    """The cells of one pyramid level: squares of `stride` pixels, in raster order."""

    rows: int
    cols: int
    stride: int

    def cells(self, device: torch.device) -> Tensor:
        """The cells as boxes: float (rows * cols, 4), xyxy in pixels."""
        y, x = torch.meshgrid(
            torch.arange(self.rows, device=device) * self.stride,
            torch.arange(self.cols, device=device) * self.stride,
            indexing="ij",
        )
        return torch.stack([x, y, x + self.stride, y + self.stride], dim=-1).flatten(0, 1).float()


class HeadOutputs(NamedTuple):
    """Outputs of the head for each of the L cells of all levels, finest level first, raster order within a level.

    Attributes:
        logits: (B, L, classes), before the sigmoid.
        distances: (B, L, 4): left, top, right, bottom from the cell's centre, in strides, not negative.
        centreness: (B, L), before the sigmoid.
        levels: grid of each level.
    """

    logits: Tensor
    distances: Tensor
    centreness: Tensor
    levels: tuple[LevelGrid, ...]

    @property
    def cells(self) -> Tensor:
        """(L, 4): each cell as a box in pixels, xyxy; its side is the stride of its level."""
        return torch.cat([level.cells(self.logits.device) for level in self.levels])


class BatchTargets(NamedTuple):
    """Objects and ignored boxes of the B images of a batch, padded to equal numbers with empty boxes (0, 0, 0, 0).

    Attributes:
        boxes: float (B, M, 4), objects, xyxy in pixels of the image; M >= 1.
        labels: int64 (B, M), classes of the model.
        ignore_boxes: float (B, K, 4), objects that may or may not be there; K >= 1.
    """

    boxes: Tensor
    labels: Tensor
    ignore_boxes: Tensor

    @classmethod
    def padded(cls, targets: Sequence[dict[str, Tensor]]) -> BatchTargets:
        """Pad the targets of each image: `boxes` (n, 4), `labels` int64 (n,), and optionally `ignore_boxes` (k, 4)."""
        none = targets[0]["boxes"].new_zeros((0, 4))
        parts = zip(*((t["boxes"], t["labels"], t.get("ignore_boxes", none)) for t in targets), strict=True)
        # One more row, of zeros, so that no dimension is empty.
        return cls(*(pad_sequence([_with_empty_row(p) for p in part], batch_first=True) for part in parts))

    def to(self, device: torch.device) -> BatchTargets:
        """The same targets on a device."""
        return BatchTargets(*(part.to(device, non_blocking=True) for part in self))


def _with_empty_row(part: Tensor) -> Tensor:
    return torch.cat([part, part.new_zeros((1, *part.shape[1:]))])


def match_cells(levels: Sequence[LevelGrid], boxes: Tensor, ignore_boxes: Tensor, centre_radius: float) -> Tensor:
    """Assign a training target to each of the L cells of each image.

    A cell learns an object when its centre is inside the box, within `centre_radius` strides of the box's centre along
    both axes, and the furthest side is within 4 to 8 strides (no lower bound at the finest level, no upper one at the
    coarsest); of several such objects the smallest wins, or the first of equal ones. Any other cell inside an ignore
    box is left out of the loss.

    Args:
        levels: finest first.
        boxes, ignore_boxes: see `BatchTargets`; an empty box has no cell inside.
        centre_radius: in strides.

    Returns:
        int64 (B, L): index of a box of the image, or BACKGROUND, or IGNORED.
    """
    cell, good = _candidates(levels, boxes, centre_radius)  # each (B, M * n)
    batch, count, _ = boxes.shape
    each = cell.shape[1] // count
    area = (boxes[..., 2:] - boxes[..., :2]).prod(-1).repeat_interleave(each, 1)  # (B, M * n)
    area = torch.where(good, area, torch.inf)
    cells = sum(level.rows * level.cols for level in levels)
    smallest = area.new_full((batch, cells), torch.inf).scatter_reduce(1, cell, area, "amin")
    index = torch.arange(count, device=boxes.device).repeat_interleave(each).expand(batch, -1)
    index = torch.where(good & (area == smallest.gather(1, cell)), index, count)
    first = index.new_full((batch, cells), count).scatter_reduce(1, cell, index, "amin")
    unmatched = torch.where(_covered(levels, ignore_boxes), IGNORED, BACKGROUND)
    return torch.where(first < count, first, unmatched)


def _candidates(levels: Sequence[LevelGrid], boxes: Tensor, centre_radius: float) -> tuple[Tensor, Tensor]:
    """The n cells around the centre of each box, on every level, and whether each may learn the box.

    Only these few can be within `centre_radius`, so that the rest of the L cells need not be looked at.

    Returns:
        int64 (B, M * n), indices of cells; bool (B, M * n).
    """
    steps = torch.arange(math.ceil(2 * centre_radius) + 1, device=boxes.device)
    left, top, right, bottom = boxes[..., None, None].unbind(2)  # each (B, M, 1, 1)
    centre_x, centre_y = (left + right) / 2, (top + bottom) / 2
    start, found, allowed = 0, [], []
    for rank, (rows, cols, stride) in enumerate(levels):
        row = (centre_y / stride - centre_radius - 0.5).floor().long() + steps[:, None]  # (B, M, n, 1)
        col = (centre_x / stride - centre_radius - 0.5).floor().long() + steps  # (B, M, 1, n)
        x, y = (col + 0.5) * stride, (row + 0.5) * stride
        across, down = torch.minimum(x - left, right - x), torch.minimum(y - top, bottom - y)
        offset = torch.maximum((x - centre_x).abs(), (y - centre_y).abs())
        reach = torch.maximum(torch.maximum(x - left, right - x), torch.maximum(y - top, bottom - y))
        lowest = 0 if rank == 0 else 4 * stride
        highest = math.inf if rank == len(levels) - 1 else 8 * stride
        in_grid = (row >= 0) & (row < rows) & (col >= 0) & (col < cols)
        near = (torch.minimum(across, down) > 0) & (offset < centre_radius * stride)
        found.append((start + row.clamp(0, rows - 1) * cols + col.clamp(0, cols - 1)).flatten(2))
        allowed.append((in_grid & near & (reach > lowest) & (reach <= highest)).flatten(2))
        start += rows * cols
    return torch.cat(found, 2).flatten(1), torch.cat(allowed, 2).flatten(1)


def _covered(levels: Sequence[LevelGrid], boxes: Tensor) -> Tensor:
    """Whether the centre of each cell lies strictly inside any of an image's boxes (B, K, 4): bool (B, L)."""
    left, top, right, bottom = boxes[..., None].unbind(2)  # each (B, K, 1)
    covered = []
    for rows, cols, stride in levels:
        x = (torch.arange(cols, device=boxes.device) + 0.5) * stride
        y = (torch.arange(rows, device=boxes.device) + 0.5) * stride
        down, across = (y > top) & (y < bottom), (x > left) & (x < right)  # (B, K, rows), (B, K, cols)
        covered.append((down.float().mT @ across.float()).flatten(1) > 0)  # the number of boxes around each centre
    return torch.cat(covered, 1)


def centreness_of(distances: Tensor) -> Tensor:
    """Centreness of points in their boxes, 0..1: (..., 4) distances to left, top, right, bottom give (...)."""
    across, down = distances[..., [0, 2]], distances[..., [1, 3]]
    return ((across.amin(-1) / across.amax(-1)) * (down.amin(-1) / down.amax(-1))).clamp(min=0).sqrt()


def giou_loss(found: Tensor, wanted: Tensor) -> Tensor:
    """1 - generalised IoU (https://arxiv.org/abs/1902.09630) of two boxes around the same point.

    Args:
        found, wanted: (..., 4), distances of the sides from the point, not negative; `wanted` has an area.

    Returns:
        (...), 0 to 2.
    """
    overlap, hull = _area(torch.minimum(found, wanted)), _area(torch.maximum(found, wanted))
    union = _area(found) + _area(wanted) - overlap
    return 1 - overlap / union + (hull - union) / hull


def _area(distances: Tensor) -> Tensor:
    left, top, right, bottom = distances.unbind(-1)
    return (left + right) * (top + bottom)


def fcos_loss(outputs: HeadOutputs, targets: BatchTargets, centre_radius: float) -> dict[str, Tensor]:
    """The three losses of FCOS, in float32, each a sum divided by the number of cells that learn an object.

    Cells inside ignore boxes that learn no object count neither as object nor as background.

    Args:
        outputs: of a batch of B images.
        targets: of the same images.
        centre_radius: see `match_cells`.

    Returns:
        `classification`, `boxes`, `centreness`: scalars to be summed.
    """
    cells = outputs.cells
    matched = match_cells(outputs.levels, targets.boxes, targets.ignore_boxes, centre_radius)  # (B, L)
    positive, index = matched >= 0, matched.clamp(min=0)
    count = positive.sum().clamp(min=1)

    logits = outputs.logits.float()
    labels = targets.labels.gather(1, index)
    classes = torch.arange(logits.shape[-1], device=logits.device)
    wanted = ((labels[..., None] == classes) & positive[..., None]).float()
    focal = sigmoid_focal_loss(logits, wanted)  # (B, L, classes)
    classification = (focal * (matched != IGNORED)[..., None]).sum() / count

    # Selecting the positive cells would wait for their number; the other cells get a loss of 0 and no gradient instead.
    boxes = targets.boxes.float().gather(1, index[..., None].expand(-1, -1, 4))
    distances = torch.where(positive[..., None], BOX_CODER.encode(cells, boxes), 1.0)
    predicted = torch.where(positive[..., None], outputs.distances.float(), 1.0)
    box_loss = giou_loss(predicted, distances).sum() / count

    centreness = F.binary_cross_entropy_with_logits(
        outputs.centreness.float(), centreness_of(distances), weight=positive.float(), reduction="sum"
    )
    return {"classification": classification, "boxes": box_loss, "centreness": centreness / count}
