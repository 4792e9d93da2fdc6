"""Our model on an image of a golden set, with all outputs that detectron2's arrays hold."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vitmalis.detector.config import RcnnConfig
from vitmalis.detector.detector import image_tensor
from vitmalis.detector.pooling import pool_boxes
from vitmalis.detector.rcnn import BOX_CODER, POOL_SIDE, RcnnDetector, select_boxes
from vitmalis.types import Detections
from vitmalis_jobs.validation.parity.golden import Case


class Run:
    """The outputs of our model on the image of one case."""

    def __init__(self, model: RcnnDetector, case: Case) -> None:
        self.model = model
        self.device = next(model.parameters()).device
        self.image_size = case.image.shape[:2]
        self.output_size = case.output_size
        self.outputs: dict[str, Tensor] = {}
        net = model.backbone.vit
        hooked = {"patch_embed": net.patch_embed, **{f"block{i:02d}": block for i, block in enumerate(net.blocks)}}
        hooks = [
            module.register_forward_hook(
                lambda _module, _inputs, output, name=name: self.outputs.update({name: output})
            )
            for name, module in hooked.items()
        ]
        features = net(prepared(model, case))
        for hook in hooks:
            hook.remove()
        self.levels = model.backbone.pyramid(features)
        self.outputs["last_feat"] = features
        for index, level in enumerate(self.levels, start=model.backbone.strides[0].bit_length() - 1):
            objectness, deltas = model.proposal_generator.rpn_head(level)
            self.outputs |= {f"p{index}": level, f"rpn_obj_p{index}": objectness, f"rpn_delta_p{index}": deltas}
        self.proposals = model.proposal_generator(self.levels, [self.image_size])[0]
        if "given_boxes" in case.arrays:
            self._run_box_heads(torch.from_numpy(case.arrays["given_boxes"]).to(self.device))

    def _run_box_heads(self, boxes: Tensor) -> None:
        """The second stage on boxes (P, 4), step by step."""
        strides = self.model.config.pyramid.strides
        pooled = pool_boxes(self.levels[: len(strides)], strides, boxes, POOL_SIDE)
        hidden = self.model.roi_heads.box_head(pooled)
        logits, deltas = self.model.roi_heads.box_predictor(hidden)
        self.outputs |= {
            "given_roi_feat": pooled,
            "given_head": hidden,
            "given_cls_logits": logits,
            "given_box_deltas": deltas,
            "given_probs": logits.softmax(dim=1),
            "given_pred_boxes": BOX_CODER.decode_single(deltas, boxes).flatten(1),
        }

    def detections(self, proposals: Tensor, head: RcnnConfig, scaled: bool) -> Detections:
        """The second stage on proposals (P, 4), to the end, in pixels of the image or scaled to the output size."""
        logits, boxes = self.model.roi_heads(self.levels, proposals.to(self.device))
        found = select_boxes(logits, boxes, self.image_size, head, self.model.config.classes)
        return self._scaled(found) if scaled else found

    def _scaled(self, found: Detections) -> Detections:
        """Detections in the output size: scaled, clipped, without empty ones (upstream's `detector_postprocess`)."""
        (height, width), (rows, cols) = self.output_size, self.image_size
        boxes = found.boxes_xyxy * np.array([width / cols, height / rows] * 2, np.float32)
        boxes = boxes.clip(0, np.array([width, height] * 2, np.float32))
        solid = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        return Detections(boxes, found.scores, found.labels).select(solid)


def prepared(model: RcnnDetector, case: Case) -> Tensor:
    """The case's image (1, 3, H, W) as it entered detectron2's patch embedding, padded or cropped.

    Where upstream did not pad to the patch, its convolution dropped the remainder of rows and columns; so do we.
    """
    height, width = case.image.shape[:2]
    normalised = model.prepare(image_tensor(case.image, next(model.parameters()).device))[..., :height, :width]
    patch_px = model.config.vit.patch_px
    rows, cols = (side // patch_px * patch_px for side in case.padded)
    return F.pad(normalised, (0, cols - width, 0, rows - height))
