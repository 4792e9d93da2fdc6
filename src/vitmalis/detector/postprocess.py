"""Padding of images for the model, and non-maximum suppression of the boxes that it predicts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import batched_nms, clip_boxes_to_image

from vitmalis.types import Detections


def pad_to_multiple(images: Tensor, divisor: int) -> Tensor:
    """Pad (B, C, H, W) with zeros at the right and bottom until both sides are multiples of `divisor`."""
    height, width = images.shape[-2:]
    return F.pad(images, (0, -width % divisor, 0, -height % divisor))


def select_detections(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    *,
    image_size: tuple[int, int],
    nms_iou: float,
    max_detections: int,
    classes: Sequence[int],
) -> Detections:
    """Clip boxes to the image, apply non-maximum suppression within each class, and keep the best.

    Args:
        boxes: (N, 4), xyxy in pixels.
        scores: (N,).
        labels: (N,) classes of the model.
        image_size: (height, width) before padding.
        nms_iou: overlap above which the box with the lower score is dropped.
        max_detections: largest number of boxes that are kept.
        classes: for each class of the model its index into `COCO_CLASSES`.

    Returns:
        Detections, best first, without empty boxes.
    """
    boxes, scores = clip_boxes_to_image(boxes.detach().float(), image_size), scores.detach().float()
    keep = batched_nms(boxes, scores, labels, nms_iou)[:max_detections]
    boxes, scores = boxes[keep], scores[keep]
    labels = torch.tensor(classes, device=labels.device)[labels[keep]]
    solid = ((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])).cpu().numpy()
    return Detections(boxes.cpu().numpy(), scores.cpu().numpy(), labels.cpu().numpy()).select(solid)
