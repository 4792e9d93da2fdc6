"""The two stages of the R-CNN head with static shapes: proposals, then the boxes of a fixed number of places."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitmalis.detector.config import RcnnConfig
from vitmalis.detector.fused.pyramid import convolution, linear, norm
from vitmalis.detector.fused.selection import ABSENT, clipped, gathered, select, solid
from vitmalis.detector.fused.suppression import suppress
from vitmalis.detector.pooling import CANONICAL_SIDE_PX, pool_boxes
from vitmalis.detector.rcnn import BOX_CODER, POOL_SIDE, RcnnDetector

MAX_CANDIDATES = 4096
"""Most boxes of all classes that enter the last suppression. The eager head takes all above the score threshold, of
which trained models have some hundreds."""

MAX_LOG_SCALE = math.log(1000.0 / 16)
"""Largest logarithm of a box's growth, as in torchvision's and detectron2's coders."""


def decoded(deltas: Tensor, boxes: Tensor, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0)) -> Tensor:
    """Move and scale boxes (..., 4) by deltas (..., 4): torchvision's `BoxCoder` without constants from the host."""
    size = boxes[..., 2:] - boxes[..., :2]
    centre = boxes[..., :2] + 0.5 * size
    moved = deltas[..., :2] / weights[0] * size + centre
    half = 0.5 * ((deltas[..., 2:] / weights[2]).clamp(max=MAX_LOG_SCALE).exp() * size)
    return torch.cat([moved - half, moved + half], -1)


class FusedProposals:
    """The region proposal network, its weights in the type that products run in."""

    def __init__(self, model: RcnnDetector, dtype: torch.dtype) -> None:
        head, self._config = model.proposal_generator.rpn_head, model.head_config
        self._strides = model.backbone.strides
        self._convs = [convolution(layer, dtype) for layer in head.conv if isinstance(layer, nn.Conv2d)]
        both = head.objectness_logits, head.anchor_deltas
        weight, bias = (torch.cat([getattr(layer, part) for layer in both]) for part in ("weight", "bias"))
        self._out = linear(weight[:, :, 0, 0], bias, dtype)
        device = weight.device
        self._halves = [_anchor_halves(px, self._config.aspect_ratios, device) for px in self._config.anchor_sizes_px]

    def __call__(self, levels: Sequence[Tensor], image_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Propose boxes in levels (B, H_l, W_l, channels) of images (height, width) before padding.

        Returns:
            Boxes float32 (B, P, 4), xyxy in pixels, best first, and bool (B, P): which places have one.
        """
        found = [
            self._best_of_level(level, stride, half)
            for level, stride, half in zip(levels, self._strides, self._halves, strict=True)
        ]
        boxes, logits = (torch.stack(part, 1) for part in zip(*found, strict=True))  # (B, levels, proposals, ...)
        valid = boxes.isfinite().all(-1) & logits.isfinite()
        boxes = clipped(boxes, image_size)
        valid &= solid(boxes)
        lists = boxes.flatten(0, 1)
        labels = torch.zeros(lists.shape[:2], dtype=torch.int32, device=lists.device)
        keep = suppress(lists, labels, valid.flatten(0, 1), self._config.proposal_nms_iou).view(valid.shape)
        kept = logits.masked_fill(~keep, -math.inf).flatten(1)
        best, index = kept.topk(min(self._config.proposals, kept.shape[1]))
        return gathered(boxes.flatten(1, 2), index), best.isfinite()

    def _best_of_level(self, level: Tensor, stride: int, half: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes (B, proposals, 4) and logits (B, proposals), best first, -inf where the level has no more anchors."""
        hidden = level
        for convolve in self._convs:
            hidden = convolve(hidden).relu_()
        anchors, cols = len(half), level.shape[2]
        objectness, deltas = self._out(hidden).split([anchors, 4 * anchors], -1)  # each (B, H, W, ...)
        logits = objectness.float().flatten(1)
        places = min(self._config.proposals, logits.shape[1])
        best, index = logits.topk(places)
        chosen = gathered(deltas.flatten(1).unflatten(1, (-1, 4)), index).float()
        cell = index // anchors
        corner = torch.stack([cell % cols, cell // cols], -1) * stride  # top left, see `rpn.level_anchors`
        boxes = decoded(chosen, torch.cat([corner, corner], -1) + half[index % anchors])
        missing = self._config.proposals - places
        return F.pad(boxes, (0, 0, 0, missing)), F.pad(best, (0, missing), value=-math.inf)


def _anchor_halves(size_px: int, ratios: Sequence[float], device: torch.device) -> Tensor:
    """Anchors (A, 4) around the origin, see `rpn.level_anchors`."""
    ratio = torch.tensor(ratios, device=device)
    width = size_px / ratio.sqrt()
    return torch.stack([-width, -width * ratio, width, width * ratio], dim=1) / 2


class FusedRcnnHead:
    """Proposals and box heads, their weights in the type that products run in."""

    def __init__(self, model: RcnnDetector, dtype: torch.dtype) -> None:
        self._config: RcnnConfig = model.head_config
        self._strides = model.config.pyramid.strides
        self._propose = FusedProposals(model, dtype)
        box, predictor = model.roi_heads.box_head, model.roi_heads.box_predictor
        self._convs = [(convolution(layer, dtype), norm(layer.norm, dtype)) for layer in box.convs]
        # Maps are flattened with their channels last.
        hidden = box.fc1.weight.detach().unflatten(1, (-1, POOL_SIDE**2)).transpose(1, 2).flatten(1)
        self._hidden = linear(hidden, box.fc1.bias, dtype)
        both = predictor.cls_score, predictor.bbox_pred
        weight, bias = (torch.cat([getattr(layer, part) for layer in both]) for part in ("weight", "bias"))
        self._out = linear(weight, bias, dtype)
        self._classes = len(model.config.classes)

    def __call__(self, levels: Sequence[Tensor], image_size: tuple[int, int]) -> Tensor:
        """Detect in levels (B, H_l, W_l, channels) of images (height, width) before padding: see `selection.select`."""
        proposals, valid = self._propose(levels, image_size)
        logits, deltas = self._classify(self._pool(levels[: len(self._strides)], proposals), valid.shape)
        boxes = decoded(deltas, proposals[:, :, None], BOX_CODER.weights)  # (B, P, classes, 4)
        scores = logits.softmax(-1)[..., :-1]
        valid &= scores.isfinite().all(-1) & boxes.isfinite().flatten(2).all(-1)
        good = (scores > self._config.score_threshold) & valid[..., None]
        best, index = scores.masked_fill(~good, ABSENT).flatten(1).topk(min(MAX_CANDIDATES, scores[0].numel()))
        return select(
            gathered(boxes.flatten(1, 2), index),
            best,
            index % self._classes,
            image_size=image_size,
            nms_iou=self._config.nms_iou,
            max_detections=self._config.max_detections,
        )

    def _pool(self, levels: Sequence[Tensor], boxes: Tensor) -> Tensor:
        """Features inside boxes (B, P, 4): (B * P, 7, 7, channels)."""
        if boxes.is_cuda:
            from vitmalis.detector.fused.head_kernels import roi_align

            return roi_align(levels, self._strides[0].bit_length() - 1, boxes, POOL_SIDE, CANONICAL_SIDE_PX)
        maps = [level.permute(0, 3, 1, 2) for level in levels]
        pooled = [
            pool_boxes([m[i : i + 1] for m in maps], self._strides, own, POOL_SIDE) for i, own in enumerate(boxes)
        ]
        return torch.cat(pooled).permute(0, 2, 3, 1).to(levels[0].dtype)

    def _classify(self, pooled: Tensor, places: torch.Size) -> tuple[Tensor, Tensor]:
        """Logits (B, P, classes + 1), background last, and deltas (B, P, classes, 4), in fp32."""
        x = pooled
        for convolve, normalise in self._convs:
            x = normalise(convolve(x)).relu_()
        out = self._out(self._hidden(x.flatten(1)).relu_()).float().unflatten(0, places)
        logits, deltas = out.split([self._classes + 1, 4 * self._classes], -1)
        return logits, deltas.unflatten(-1, (self._classes, 4))
