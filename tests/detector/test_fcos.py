"""What each cell learns, what it costs, and that boxes come back from the head's own language."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.detector.fcos_reference import loss_of_images, match_image
from vitmalis.detector.build import build_model
from vitmalis.detector.config import preset
from vitmalis.detector.fcos import FcosDetector
from vitmalis.detector.fcos_training import (
    BACKGROUND,
    BOX_CODER,
    IGNORED,
    BatchTargets,
    HeadOutputs,
    LevelGrid,
    centreness_of,
    fcos_loss,
    match_cells,
)

NONE = torch.zeros(0, 4)
NO_LABELS = torch.zeros(0, dtype=torch.int64)
CPU = torch.device("cpu")
RADIUS = 1.5


def two_levels(rows: int, cols: int) -> tuple[LevelGrid, ...]:
    """Levels of strides 8 and 16 over an image of 8 * rows x 8 * cols pixels."""
    return LevelGrid(rows, cols, 8), LevelGrid(rows // 2, cols // 2, 16)


def matched_in(levels: tuple[LevelGrid, ...], boxes: Tensor, ignore_boxes: Tensor = NONE) -> Tensor:
    """Target of each cell of one image."""
    return match_cells(levels, boxes[None], ignore_boxes[None], RADIUS)[0]


def test_cells_are_boxes_in_raster_order() -> None:
    assert LevelGrid(2, 2, 8).cells(CPU).tolist() == [[0, 0, 8, 8], [8, 0, 16, 8], [0, 8, 8, 16], [8, 8, 16, 16]]


def test_a_small_object_is_learnt_at_the_fine_level_near_its_centre() -> None:
    matched = matched_in(two_levels(4, 4), torch.tensor([[0.0, 0.0, 16.0, 16.0]]))
    # Centres 4 and 12 along both axes are inside and 4 px from its centre (8, 8); at stride 16, the furthest side of
    # cell (0, 0) is 8 px away, less than 4 strides.
    expected = torch.full((20,), BACKGROUND)
    expected[[0, 1, 4, 5]] = 0
    assert torch.equal(matched, expected)


def test_a_large_object_is_learnt_at_the_coarse_level() -> None:
    matched = matched_in(two_levels(20, 20), torch.tensor([[0.0, 0.0, 160.0, 160.0]]))
    fine, coarse = matched.split([400, 100])
    assert (fine == BACKGROUND).all()  # its furthest side is at least 80 px away: more than 8 strides of 8
    cells = (coarse == 0).nonzero().flatten().tolist()
    assert cells == [10 * row + col for row in (4, 5) for col in (4, 5)]  # 8 px off the centre (80, 80); next: 24


def test_the_smaller_of_two_objects_wins() -> None:
    boxes = torch.tensor([[0.0, 0.0, 32.0, 32.0], [8.0, 8.0, 24.0, 24.0]])
    matched = matched_in((LevelGrid(4, 4, 8),), boxes)
    assert matched.view(4, 4)[1:3, 1:3].tolist() == [[1, 1], [1, 1]]


def test_ignored_cells_are_neither_object_nor_background() -> None:
    sure, unsure = torch.tensor([[0.0, 0.0, 16.0, 16.0]]), torch.tensor([[8.0, 0.0, 32.0, 16.0]])
    matched = matched_in((LevelGrid(4, 4, 8),), sure, unsure)
    b, i = BACKGROUND, IGNORED
    # The unsure box covers columns 1 to 3 of the upper two rows; the sure object keeps its own cells.
    assert matched.view(4, 4).tolist() == [[0, 0, i, i], [0, 0, i, i], [b, b, b, b], [b, b, b, b]]


def test_centreness() -> None:
    distances = torch.tensor([[2.0, 2.0, 2.0, 2.0], [1.0, 3.0, 4.0, 3.0]])
    assert centreness_of(distances).tolist() == [1.0, 0.5]


def outputs_for(level: LevelGrid, box: Tensor, logit: float = 0.0) -> HeadOutputs:
    """Exact distances to one box in every cell of one level, and the same logit for every class."""
    cells = level.cells(CPU)
    distances = BOX_CODER.encode(cells, box.expand(len(cells), 4)).clamp(min=0)[None]
    return HeadOutputs(torch.full((1, len(cells), 2), logit), distances, torch.zeros(1, len(cells)), (level,))


def test_the_losses_by_hand() -> None:
    box = torch.tensor([[0.0, 0.0, 16.0, 16.0]])
    targets = BatchTargets.padded([{"boxes": box, "labels": torch.tensor([1])}])
    losses = fcos_loss(outputs_for(LevelGrid(2, 2, 8), box), targets, RADIUS)
    # Four cells learn it. At probability 1/2 the focal loss is alpha / 4 * log 2: 0.25 for the object's class, 0.75 for
    # the other. Boxes are exact. Centreness 1/3 each (distances 4 and 12) against a logit of 0.
    assert losses["classification"].item() == pytest.approx((0.25 + 0.75) / 4 * math.log(2))
    assert losses["boxes"].item() == pytest.approx(0.0, abs=1e-6)
    assert losses["centreness"].item() == pytest.approx(math.log(2))


def test_ignored_cells_cost_nothing() -> None:
    everywhere = torch.tensor([[0.0, 0.0, 16.0, 16.0]])
    targets = BatchTargets.padded([{"boxes": NONE, "labels": NO_LABELS, "ignore_boxes": everywhere}])
    outputs = outputs_for(LevelGrid(2, 2, 8), everywhere, logit=3.0)
    assert fcos_loss(outputs, targets, RADIUS)["classification"] == 0
    empty = torch.zeros_like(targets.ignore_boxes)
    assert fcos_loss(outputs, targets._replace(ignore_boxes=empty), RADIUS)["classification"] > 1


def test_matching_and_losses_wait_for_no_value() -> None:
    """Tensors of the meta device have no values: whatever asks for one, and would wait for a GPU, raises."""
    with torch.device("meta"):
        outputs = HeadOutputs(torch.rand(2, 80, 5), torch.rand(2, 80, 4), torch.rand(2, 80), two_levels(8, 8))
        labels = torch.zeros(2, 3, dtype=torch.int64)
        targets = BatchTargets(torch.rand(2, 3, 4), labels, torch.rand(2, 3, 4))
    assert {loss.shape for loss in fcos_loss(outputs, targets, RADIUS).values()} == {()}


def test_targets_are_padded_with_empty_boxes() -> None:
    one, two = torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.tensor([[5.0, 6.0, 7.0, 8.0], [0.0, 0.0, 9.0, 9.0]])
    targets = BatchTargets.padded(
        [
            {"boxes": one, "labels": torch.tensor([4])},
            {"boxes": two, "labels": torch.tensor([2, 3]), "ignore_boxes": one},
        ]
    )
    empty = [0.0] * 4
    assert targets.boxes.tolist() == [[*one.tolist(), empty, empty], [*two.tolist(), empty]]
    assert targets.labels.tolist() == [[4, 0, 0], [2, 3, 0]]
    assert targets.ignore_boxes.tolist() == [[empty, empty], [*one.tolist(), empty]]


QUARTERS = st.integers(-100, 700).map(lambda value: value / 4)
"""Coordinates that reach over the image, at which centres of cells and sides of boxes can coincide."""


@st.composite
def image_targets(draw: st.DrawFn) -> dict[str, Tensor]:
    """Any objects and ignored boxes of one image, also none."""

    def boxes(most: int) -> Tensor:
        corners = draw(st.lists(st.tuples(QUARTERS, QUARTERS, QUARTERS, QUARTERS), max_size=most))
        points = torch.tensor(corners, dtype=torch.float32).reshape(-1, 2, 2)
        return torch.cat([points.amin(1), points.amax(1) + 0.25], 1)

    objects = boxes(5)
    labels = draw(st.lists(st.integers(0, 1), min_size=len(objects), max_size=len(objects)))
    return {"boxes": objects, "labels": torch.tensor(labels, dtype=torch.int64), "ignore_boxes": boxes(3)}


@settings(max_examples=100)
@given(
    targets=st.lists(image_targets(), min_size=1, max_size=3),
    radius=st.sampled_from([0.5, 1.0, 1.5, 2.2]),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_batch_is_matched_and_priced_as_image_by_image(
    targets: list[dict[str, Tensor]], radius: float, seed: int
) -> None:
    levels = tuple(LevelGrid(160 // stride, 192 // stride, stride) for stride in (8, 16, 32))
    cells = torch.cat([level.cells(CPU) for level in levels])
    generator = torch.Generator().manual_seed(seed)
    size = (len(targets), len(cells))
    outputs = HeadOutputs(
        torch.randn(*size, 2, generator=generator).requires_grad_(),
        (6 * torch.rand(*size, 4, generator=generator)).requires_grad_(),
        torch.randn(size, generator=generator).requires_grad_(),
        levels,
    )
    batch = BatchTargets.padded(targets)
    matched = match_cells(levels, batch.boxes, batch.ignore_boxes, radius)
    expected = [match_image(cells, t["boxes"], t["ignore_boxes"], radius) for t in targets]
    assert torch.equal(matched, torch.stack(expected))

    ours, theirs = fcos_loss(outputs, batch, radius), loss_of_images(outputs, targets, radius)
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-5)
    gradients = [torch.autograd.grad(sum(losses.values()), outputs[:3]) for losses in (ours, theirs)]
    for our, their in zip(*gradients, strict=True):
        torch.testing.assert_close(our, their, rtol=1e-3, atol=1e-5)


def test_an_image_without_objects_trains() -> None:
    model = tiny()
    targets = BatchTargets.padded([{"boxes": NONE, "labels": NO_LABELS}])
    losses = model.loss(model(torch.rand(1, 3, 64, 96) * 255), targets)
    sum(losses.values()).backward()
    assert losses["boxes"] == losses["centreness"] == 0
    assert model.head.classification_head.cls_logits.weight.grad.abs().sum() > 0


def tiny() -> FcosDetector:
    torch.manual_seed(0)
    model = build_model(preset("vitdet_tiny"))
    assert isinstance(model, FcosDetector)
    return model


def test_boxes_come_back_with_coco_labels() -> None:
    model = tiny()
    box = torch.tensor([[10.0, 12.0, 50.0, 44.0]])
    outputs = outputs_for(LevelGrid(8, 8, 8), box)
    logits = torch.full((1, 64, 5), -20.0)
    logits[0, 8 * 3 + 3, 3] = 20.0  # one cell, sure of the fourth class: bus
    logits[0, 8 * 3 + 4, 3] = 2.0  # its neighbour says the same, less surely: suppressed
    found = model.decode(outputs._replace(logits=logits), [(64, 48)])[0]
    assert found.boxes_xyxy.tolist() == [[10.0, 12.0, 48.0, 44.0]]  # clipped to the unpadded image
    assert found.labels.tolist() == [5]
    assert found.scores.tolist() == pytest.approx([math.sqrt(0.5)])


@pytest.mark.parametrize(("height", "width"), [(64, 64), (70, 131), (33, 96)])
def test_sizes(height: int, width: int) -> None:
    model = tiny().eval()
    with torch.inference_mode():
        outputs = model(torch.rand(2, 3, height, width) * 255)
    rows, cols = -(-height // 32) * 4, -(-width // 32) * 4  # of the finest level, stride 8
    levels = [(-(-rows // 2**k)) * (-(-cols // 2**k)) for k in range(4)]
    assert outputs.cells.shape == (sum(levels), 4)
    assert outputs.logits.shape == (2, sum(levels), 5)
    assert outputs.distances.shape == (2, sum(levels), 4)
    assert (outputs.distances >= 0).all()
    assert outputs.cells[-1, 2] >= width
    assert outputs.cells[-1, 3] >= height


def test_padding_is_the_mean_colour() -> None:
    """A frame and the same frame filled up with the mean colour are one and the same to the model."""
    model = tiny().eval()
    image = torch.rand(1, 3, 50, 70) * 255
    filled = torch.tensor(model.config.pixel_mean).view(1, 3, 1, 1).repeat(1, 1, 64, 96)
    filled[:, :, :50, :70] = image
    with torch.inference_mode():
        for ours, theirs in zip(model(image), model(filled), strict=True):
            torch.testing.assert_close(ours, theirs)


def test_no_pixel_crosses_a_patch_border_in_the_stem() -> None:
    stem = tiny().backbone.net.patch_embed
    image = torch.rand(1, 3, 32, 48)
    changed = image.clone()
    changed[:, :, 16:, 16:32] += 1  # patch (1, 1)
    with torch.inference_mode():
        differs = (stem(image) != stem(changed)).any(-1)[0]
    assert differs.tolist() == [[False, False, False], [False, True, False]]


def test_bfloat16_training_step_reaches_every_parameter() -> None:
    model = tiny()
    boxes = torch.tensor([[8.0, 8.0, 40.0, 60.0]])
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model(torch.rand(1, 3, 64, 64) * 255)
    losses = model.loss(outputs, BatchTargets.padded([{"boxes": boxes, "labels": torch.tensor([0])}]))
    sum(losses.values()).backward()
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
