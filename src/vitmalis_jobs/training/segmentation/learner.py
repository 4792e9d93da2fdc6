"""One training step of a mask head on the features of a frozen detector."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vitmalis.detector.fcos import FcosDetector
from vitmalis.detector.mask_head import MaskHead
from vitmalis_jobs.training.detection.mask_sampling import random_mixture
from vitmalis_jobs.training.detection.state import TrainingState
from vitmalis_jobs.training.detection.trainer import optimise, window_of_positions
from vitmalis_jobs.training.segmentation.config import MaskTrainOptions
from vitmalis_jobs.training.segmentation.mask_targets import MaskBatch


@dataclass
class MaskLearner:
    """Trains the mask head of a detector; nothing else of the detector changes.

    Attributes:
        detector: frozen but for its mask head, which is the model of `state`.
        state: is changed in place.
        options: of the optimisation.
    """

    detector: FcosDetector
    state: TrainingState
    options: MaskTrainOptions

    def step(self, batch: MaskBatch) -> dict[str, Tensor]:
        """Take one optimiser step on a batch; returns the loss, the masks' IoU and the gradient's norm."""
        rng = np.random.default_rng([self.options.seed, self.state.step])
        levels = self._levels(batch, rng)
        head = self.state.model
        assert isinstance(head, MaskHead)
        logits, targets = [], []
        for index, objects in enumerate(batch.objects):
            drawn = objects.drawn(rng, self.options.objects, self.options.box_jitter)
            logits.append(head.logits([level[index : index + 1] for level in levels], drawn.boxes.to(levels[0].device)))
            targets.append(drawn.masks().to(levels[0].device))
        predicted, wanted = torch.cat(logits)[:, 0], torch.cat(targets)
        # A sum over no object is zero, where a mean is not finite.
        loss = F.binary_cross_entropy_with_logits(predicted, wanted, reduction="sum") / max(1, wanted.numel())
        norm = optimise(self.state, loss, self.options)
        return {"loss": loss.detach(), "iou": mean_iou(predicted.detach() > 0, wanted > 0.5), "gradient_norm": norm}

    @torch.no_grad()
    def _levels(self, batch: MaskBatch, rng: np.random.Generator) -> list[Tensor]:
        """The pyramid of a batch, at times of images of which some regions are downsampled."""
        detector, images = self.detector, batch.images.to(next(self.detector.parameters()).device).float()
        generator = torch.Generator().manual_seed(self.options.seed * 1_000_003 + self.state.step)
        size = images.shape[2], images.shape[3]
        points = detector.config.geometry.restoration_points
        mixture = random_mixture(rng, detector.config.region_grid(*size), points, self.options.mixed_share)
        with nullcontext() if batch.whole_frames else window_of_positions(detector, generator):
            layout = detector.layout(size, mixture.downsample_mask)
            with torch.autocast(images.device.type, torch.bfloat16, enabled=self.options.bf16):
                return detector.backbone(detector.prepare(images), layout, mixture.restoration_point)


def mean_iou(predicted: Tensor, wanted: Tensor) -> Tensor:
    """Mean IoU of masks (N, 28, 28) within their boxes; 0 without any."""
    both, either = (predicted & wanted).sum((1, 2)), (predicted | wanted).sum((1, 2))
    return (both / either.clamp(min=1)).sum() / max(1, len(predicted))
