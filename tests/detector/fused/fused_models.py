"""Small models of both heads, with random weights that find boxes."""

from __future__ import annotations

import torch

from vitmalis.detector.build import build_model
from vitmalis.detector.config import DetectorConfig, FcosConfig, PyramidConfig, RcnnConfig, VitConfig
from vitmalis.detector.fcos import FcosDetector
from vitmalis.detector.rcnn import RcnnDetector

VIT = VitConfig(embed_dim=32, depth=4, num_heads=2, window=2, relative_grid=8, position_grid=(4, 4))
RCNN = DetectorConfig(
    name="small_rcnn",
    vit=VIT,
    pyramid=PyramidConfig(channels=16),
    head=RcnnConfig(proposals=50, box_convs=(16, 16), box_width=32),
    classes=tuple(range(3, 8)),
)
FCOS = DetectorConfig(
    name="small_fcos",
    vit=VIT,
    pyramid=PyramidConfig(strides=(8, 16, 32), channels=32),
    head=FcosConfig(),
    classes=tuple(range(3, 8)),
)
CONFIGS = {"rcnn": RCNN, "fcos": FCOS}


def small_model(head: str, seed: int = 0) -> FcosDetector | RcnnDetector:
    """A model of `CONFIGS` whose scores pass the threshold and whose boxes move."""
    torch.manual_seed(seed)
    model = build_model(CONFIGS[head])
    assert isinstance(model, FcosDetector | RcnnDetector)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1 and "norm" not in name:
                parameter.normal_(std=0.1)  # biases matter
            elif parameter.ndim > 1 and not name.startswith("backbone.net"):
                parameter.normal_(std=(2 / parameter[0].numel()) ** 0.5)
        if isinstance(model, RcnnDetector):
            model.roi_heads.box_predictor.bbox_pred.weight.mul_(0.3)
            model.proposal_generator.rpn_head.anchor_deltas.weight.mul_(0.2)
    return model.eval().requires_grad_(False)
