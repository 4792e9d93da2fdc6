"""Non-maximum suppression with static shapes: nothing that it computes on a GPU is waited for."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import batched_nms


def suppress(boxes: Tensor, labels: Tensor, valid: Tensor, threshold: float) -> Tensor:
    """Choose boxes greedily, best first, in each of several lists.

    Args:
        boxes: float32 (lists, N, 4), xyxy, best first.
        labels: int32 (lists, N); only boxes of one label suppress each other.
        valid: bool (lists, N), False for places without a box.
        threshold: overlap (IoU) above which the worse box is dropped.

    Returns:
        bool (lists, N), True for the boxes that stay.
    """
    return (suppress_by_kernels if boxes.is_cuda else _suppress_on_cpu)(boxes, labels, valid, threshold)


def _suppress_on_cpu(boxes: Tensor, labels: Tensor, valid: Tensor, threshold: float) -> Tensor:
    keep = torch.zeros_like(valid)
    falling = torch.arange(boxes.shape[1], 0, -1, dtype=torch.float32)
    for own_boxes, own_labels, own_valid, own_keep in zip(boxes, labels, valid, keep, strict=True):
        place = own_valid.nonzero()[:, 0]
        own_keep[place[batched_nms(own_boxes[place], falling[place], own_labels[place], threshold)]] = True
    return keep


def suppress_by_kernels(boxes: Tensor, labels: Tensor, valid: Tensor, threshold: float) -> Tensor:
    """`suppress` by Triton's kernels, on a GPU or in its interpreter."""
    from vitmalis.detector.fused.head_kernels import WORD_BITS, choose_greedily, find_overlaps

    lists, places = valid.shape
    at = torch.arange(places, device=boxes.device)
    count = (valid * (at + 1)).amax(1).int()  # no valid box lies behind it
    overlaps = find_overlaps(boxes.contiguous(), labels.contiguous(), count, threshold)
    bit = torch.arange(WORD_BITS, device=boxes.device)
    gone = torch.ones(lists, overlaps.shape[2] * WORD_BITS, dtype=torch.int64, device=boxes.device)
    gone[:, :places] = ~valid
    words = (gone.view(lists, -1, WORD_BITS) << bit).sum(2).int()
    choose_greedily(overlaps, words, count)
    return ((words[:, :, None] >> bit) & 1).flatten(1)[:, :places] == 0
