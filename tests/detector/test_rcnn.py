"""The two-stage head by hand, for machines without the golden files."""

import numpy as np
import pytest
import torch

from vitmalis.detector.build import build_model
from vitmalis.detector.config import DetectorConfig, PyramidConfig, RcnnConfig, VitConfig
from vitmalis.detector.pooling import assign_levels, pool_boxes
from vitmalis.detector.rcnn import select_boxes
from vitmalis.detector.rpn import choose_proposals, level_anchors

CPU = torch.device("cpu")
HEAD = RcnnConfig(box_convs=(8, 8, 8, 8), box_width=16, score_threshold=0.0)
CONFIG = DetectorConfig(
    name="small",
    vit=VitConfig(embed_dim=16, depth=4, num_heads=2, window=3, relative_grid=8),
    pyramid=PyramidConfig(channels=8),
    head=HEAD,
    classes=(0, 2, 9),
)


def test_anchors_are_centred_on_corners_and_not_rounded() -> None:
    anchors = level_anchors(1, 2, 4, 32, (0.25, 1.0), CPU)
    assert anchors.tolist() == [[-32, -8, 32, 8], [-16, -16, 16, 16], [-28, -8, 36, 8], [-12, -16, 20, 16]]


def test_boxes_are_pooled_from_the_level_of_their_size() -> None:
    sides = torch.tensor([10.0, 111.0, 112.0, 223.0, 224.0, 448.0, 4000.0])
    boxes = torch.stack([torch.zeros(7), torch.zeros(7), sides, sides], dim=1)
    assert assign_levels(boxes, (4, 8, 16, 32)).tolist() == [0, 0, 1, 1, 2, 3, 3]


@pytest.mark.parametrize("autocast", [False, True])
def test_bfloat16_features_are_pooled_at_exact_coordinates(autocast: bool) -> None:
    """In bfloat16 the box would begin at 1912 px. Features step from 0 to 1 at column 478 of cells of 4 px."""
    level = (torch.arange(512) >= 478).expand(1, 1, 8, 512).bfloat16()
    box = torch.tensor([[1909.0, 4.0, 1919.0, 24.0]])  # columns 476.75 to 479.25 of cell centres, 7 bins of 2.5 / 7
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        pooled = pool_boxes([level], [4], box, 7)
    expected = torch.tensor([0, 2 / 7, 9 / 14, 1, 1, 1, 1]).expand(1, 1, 7, 7)
    torch.testing.assert_close(pooled, expected, rtol=0, atol=1e-4)


def test_proposals_are_suppressed_within_their_level_only() -> None:
    box = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    outside = torch.tensor([[50.0, 50.0, 60.0, 60.0]])
    broken = torch.tensor([[0.0, 0.0, torch.nan, 5.0]])
    levels = [torch.cat([box, box + 0.5, outside, broken]), box]
    logits = [torch.tensor([1.0, 2.0, 9.0, 9.0]), torch.tensor([3.0])]
    chosen = choose_proposals(levels, logits, (20, 20), HEAD)
    assert chosen.logits.tolist() == [3.0, 2.0]
    assert chosen.boxes.tolist() == [[0, 0, 10, 10], [0.5, 0.5, 10.5, 10.5]]


def test_one_proposal_may_give_several_classes() -> None:
    logits = torch.tensor([[0.0, 0.0, -20.0, 0.0]])  # classes 0 and 1, and the background, a third each
    boxes = torch.tensor([[[0.0, 0.0, 8.0, 8.0], [1.0, 1.0, 9.0, 9.0], [0.0, 0.0, 9.0, 9.0]]])
    head = RcnnConfig(score_threshold=0.05)
    found = select_boxes(logits, boxes, (8, 20), head, CONFIG.classes)
    assert sorted(zip(found.labels.tolist(), found.boxes_xyxy.tolist(), strict=True)) == [
        (0, [0, 0, 8, 8]),
        (2, [1, 1, 9, 8]),
    ]
    assert found.scores.tolist() == pytest.approx([1 / 3, 1 / 3])


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_batch_equals_its_images(precision: torch.dtype) -> None:
    torch.manual_seed(0)
    model = build_model(CONFIG).eval()
    images = torch.rand(2, 3, 70, 90) * 255
    with torch.inference_mode(), torch.autocast("cpu", precision, enabled=precision != torch.float32):
        both = model.predict(images)
        for image, found in zip(images, both, strict=True):
            alone = model.predict(image[None])[0]
            assert len(found) > 0
            if precision == torch.float32:
                np.testing.assert_allclose(np.sort(found.scores), np.sort(alone.scores), atol=1e-4)
            assert (found.boxes_xyxy[:, 2] <= 90).all()
            assert (found.boxes_xyxy[:, 3] <= 70).all()
