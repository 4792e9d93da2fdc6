"""The mask branch: hand-computed cases, torchvision's own layers, and masks in every kind of detection."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

from vitmalis.detector import load_detector, model_config, save_checkpoint
from vitmalis.detector.base import DetectionModel
from vitmalis.detector.build import build_model
from vitmalis.detector.checkpoint import load_into
from vitmalis.detector.config import (
    PRESETS,
    DetectorConfig,
    FcosConfig,
    MaskConfig,
    PyramidConfig,
    RcnnConfig,
    VitConfig,
    preset,
)
from vitmalis.detector.detector import Detector, model_id
from vitmalis.detector.flops import mask_flops, rcnn_flops
from vitmalis.detector.mask_head import MaskHead
from vitmalis.detector.stems import ChannelNorm
from vitmalis.errors import UserError
from vitmalis.types import Detections

SMALL_VIT = VitConfig(embed_dim=16, depth=4, num_heads=2, window=2, relative_grid=8)
SMALL = {
    "rcnn": DetectorConfig(
        name="small_rcnn",
        vit=SMALL_VIT,
        pyramid=PyramidConfig(channels=8),
        head=RcnnConfig(box_convs=(8, 8), box_width=16, proposals=50, score_threshold=0.0),
        mask_head=MaskConfig(convs=(8, 8)),
        classes=(0, 2, 9),
    ),
    "fcos": DetectorConfig(
        name="small_fcos",
        vit=SMALL_VIT,
        pyramid=PyramidConfig(strides=(8, 16, 32), channels=32),
        head=FcosConfig(score_threshold=0.0),
        mask_head=MaskConfig(convs=(8,), per_class=False),
        classes=(0, 2, 9),
    ),
}


def plain_head(classes: tuple[int, ...], weights: list[float], bias: float = 0.0) -> MaskHead:
    """A head that repeats each pooled cell four times, times one weight for each class, plus a bias."""
    head = MaskHead(1, (4, 8), classes, MaskConfig(convs=()))
    with torch.no_grad():
        head.deconv.weight.fill_(1)
        head.deconv.bias.fill_(0)
        head.predictor.weight.copy_(torch.tensor(weights).view(-1, 1, 1, 1))
        head.predictor.bias.fill_(bias)
    return head


def test_a_mask_comes_from_the_level_of_its_box_and_the_channel_of_its_class() -> None:
    head = plain_head((3, 7), [1.0, -1.0])
    levels = [torch.full((1, 1, 64, 64), 2.0), torch.full((1, 1, 32, 32), 5.0), torch.full((1, 1, 16, 16), 99.0)]
    boxes = [[10, 10, 60, 60], [10, 10, 60, 60], [10, 10, 130, 130]]  # the level of stride 8 begins at a side of 112
    (found,) = head.add_masks(levels, [Detections.of(boxes, [0.9, 0.8, 0.7], [3, 7, 3])])
    assert found.masks is not None
    # Of the levels 0 to 15: sigmoid(2) = 0.881 is in 14, sigmoid(-2) = 0.119 in 1, sigmoid(5) = 0.993 in 15.
    assert [np.unique(mask).tolist() for mask in found.masks] == [[14 * 17], [17], [255]]
    assert found.boxes_xyxy.tolist() == boxes


def test_a_mask_shows_where_in_its_box_the_features_are() -> None:
    """Features of cells of 4 px are 0 left of 56 px, just right of the middle of a box of 111 px, and 30 from there."""
    level = torch.where(torch.arange(32) >= 14, 30.0, 0.0).expand(1, 1, 32, 32)
    head = plain_head((0,), [1.0], -15.0)
    (found,) = head.add_masks([level, level[..., ::2, ::2]], [Detections.of([[0, 0, 111, 111]], [0.9], [0])])
    assert found.masks is not None
    assert (found.masks[0, :, :14] < 128).all()
    assert (found.masks[0, :, 14:] >= 128).all()
    assert (found.masks[0, :, :12] == 0).all()
    assert (found.masks[0, :, 16:] == 255).all()


def test_detections_below_a_score_are_left_with_masks_that_fill_their_boxes() -> None:
    head = MaskHead(1, (4, 8), (0,), MaskConfig(convs=(), min_score=0.5))
    levels = [torch.zeros(1, 1, 64, 64), torch.zeros(1, 1, 32, 32)]
    with torch.no_grad():
        head.deconv.bias.fill_(0)
        head.predictor.bias.fill_(-9)
    (found,) = head.add_masks(levels, [Detections.of([[0, 0, 30, 30]] * 3, [0.9, 0.5, 0.4], [0, 0, 0])])
    assert found.masks is not None
    assert [np.unique(mask).tolist() for mask in found.masks] == [[0], [0], [255]]


def test_the_layers_are_torchvisions() -> None:
    torch.manual_seed(0)
    ours = MaskHead(8, (4,), (0, 1, 2), MaskConfig(convs=(12, 16)))
    convs = MaskRCNNHeads(8, (12, 16), 1, norm_layer=ChannelNorm)
    predictor = MaskRCNNPredictor(16, 16, 3)
    convolutions = [layer for layer in convs.modules() if isinstance(layer, nn.Conv2d)]
    norms = [layer for layer in convs.modules() if isinstance(layer, ChannelNorm)]
    state = {}
    for index, (convolution, norm) in enumerate(zip(convolutions, norms, strict=True), 1):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
        state[f"mask_fcn{index}.weight"] = convolution.weight
        state |= {f"mask_fcn{index}.norm.{name}": value for name, value in norm.state_dict().items()}
    for own, theirs in (("deconv", predictor.conv5_mask), ("predictor", predictor.mask_fcn_logits)):
        state |= {f"{own}.{name}": value for name, value in theirs.state_dict().items()}
    ours.load_state_dict(state)
    pooled = torch.randn(5, 8, 14, 14)
    with torch.no_grad():
        torch.testing.assert_close(ours(pooled), predictor(convs(pooled)))


def test_the_tensors_are_those_of_upstreams_checkpoints(golden: Path) -> None:
    keys = json.loads((golden / "vitdet_l_keys.json").read_text())
    for name in ("vitdet_b", "vitdet_l"):
        with torch.device("meta"):
            model = build_model(PRESETS[name].with_task("instances"))
        upstream = {key: tuple(shape) for key, shape in keys[name]["state_dict"].items()}
        assert {key: tuple(value.shape) for key, value in model.state_dict().items()} == upstream


@pytest.mark.parametrize(("name", "parameters"), [("vitdet_l", 2_644_304), ("vitdet_tiny", 127_489)])
def test_parameters_of_the_mask_heads(name: str, parameters: int) -> None:
    with torch.device("meta"):
        head = MaskHead.of(preset(name).with_task("instances"))
    assert head is not None
    assert sum(parameter.numel() for parameter in head.parameters()) == parameters


def model(kind: str, masks: bool = True) -> DetectionModel:
    torch.manual_seed(0)
    config = SMALL[kind] if masks else msgspec.structs.replace(SMALL[kind], mask_head=None)
    return build_model(config).eval().requires_grad_(False)


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (100, 140, 3), np.uint8)


def half_low(detector: Detector) -> np.ndarray:
    mask = np.zeros(detector.config.region_grid(100, 140).shape, bool)
    mask[:, ::2] = True
    return mask


def in_patches(detector: Detector, image: np.ndarray, point: int) -> Detections:
    mask = half_low(detector)
    tokens = detector.config.region_grid(100, 140).tokens(mask)
    patches = np.random.default_rng(1).integers(0, 256, (tokens, 16, 16, 3), np.uint8)
    return detector.detect_patches_each([patches, patches], (100, 140), [mask, mask], point)[1]


WAYS: dict[str, Callable[[Detector, np.ndarray], Detections]] = {
    "plain": lambda detector, image: detector.detect(image),
    "batch": lambda detector, image: detector.detect_each([image[:, ::-1].copy(), image])[1],
    "cached": lambda detector, image: detector.detect_cached(image, (100, 140), None, 2)[0],
} | {f"mixed, restored at {point}": partial(in_patches, point=point) for point in range(5)}


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_detecting_gives_masks_and_the_same_boxes(kind: str, way: str, image: np.ndarray) -> None:
    with_masks, without = (Detector(model(kind, masks), weights_sha256="0") for masks in (True, False))
    found, boxes = (WAYS[way](detector, image) for detector in (with_masks, without))
    assert len(found) > 3
    np.testing.assert_array_equal(found.boxes_xyxy, boxes.boxes_xyxy)
    np.testing.assert_array_equal(found.scores, boxes.scores)
    assert boxes.masks is None
    assert found.masks is not None
    assert found.masks.shape == (len(found), 28, 28)
    assert len(np.unique(found.masks)) > 1


@pytest.mark.parametrize("kind", SMALL)
def test_masks_of_a_batch_are_those_of_its_images(kind: str, image: np.ndarray) -> None:
    detector = Detector(model(kind), weights_sha256="0")
    alone, second = detector.detect(image), detector.detect_each([image[:, ::-1].copy(), image])[1]
    assert alone.masks is not None
    assert second.masks is not None
    np.testing.assert_allclose(alone.scores, second.scores, atol=1e-5)
    assert (np.abs(alone.masks.astype(int) - second.masks) <= 17).mean() > 0.99  # rounding may cross a level


@pytest.mark.parametrize("kind", SMALL)
def test_an_image_without_objects_has_no_masks(kind: str, image: np.ndarray) -> None:
    head = msgspec.structs.replace(SMALL[kind].head, score_threshold=0.9999)
    empty = build_model(msgspec.structs.replace(SMALL[kind], head=head)).eval()
    found = Detector(empty, weights_sha256="0").detect(image)
    assert len(found) == 0
    assert found.masks is not None


def test_a_model_of_boxes_leaves_a_mask_head_out_and_one_of_instances_needs_it() -> None:
    state = model("rcnn").state_dict()
    boxes_only = model("rcnn", masks=False)
    load_into(boxes_only, state, "model.pkl")
    assert boxes_only.state_dict().keys() == {name for name in state if "mask_head" not in name}
    del state["roi_heads.mask_head.deconv.bias"]
    with pytest.raises(UserError, match=r"model\.pkl.*1 missing \(roi_heads\.mask_head\.deconv\.bias\)"):
        load_into(model("rcnn"), state, "model.pkl")


def test_a_file_of_a_whole_model_serves_both_tasks(tmp_path: Path) -> None:
    torch.manual_seed(0)
    saved = build_model(preset("vitdet_tiny").with_task("instances"))
    save_checkpoint(saved, tmp_path / "best.pt", {})
    boxes, instances = (
        load_detector("vitdet_tiny", weights=tmp_path / "best.pt", task=t) for t in ("boxes", "instances")
    )
    assert boxes.model_id != instances.model_id
    own = instances.model.state_dict()
    assert own.keys() == saved.state_dict().keys()
    assert all(torch.equal(value, own[name]) for name, value in boxes.model.state_dict().items())
    save_checkpoint(build_model(preset("vitdet_tiny")), tmp_path / "boxes.pt", {})
    with pytest.raises(
        UserError,
        match=r"boxes\.pt' do not fit .*: 13 missing \(mask_head\..*they have no mask head: use model\.task=boxes",
    ):
        load_detector("vitdet_tiny", weights=tmp_path / "boxes.pt", task="instances")


def test_random_weights_of_the_boxes_are_those_without_masks() -> None:
    boxes, instances = (load_detector("vitdet_tiny", weights="random", task=task) for task in ("boxes", "instances"))
    own = instances.model.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in boxes.model.state_dict().items())


def test_models_of_boxes_are_identified_as_before_there_were_masks() -> None:
    assert model_id(preset("vitdet_l"), "random", "fp32") == "7324b6ee48b7"
    assert model_id(preset("vitdet_l").with_task("instances"), "random", "fp32") != "7324b6ee48b7"


def test_tasks_that_a_model_cannot_do_are_one_line() -> None:
    with pytest.raises(UserError, match=r"model\.task=keypoints is unknown; choose one of boxes, instances"):
        model_config("vitdet_tiny", task="keypoints")  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"model\.task=instances: vit_tiny_patch16_224 of timm has no mask head"):
        model_config("vit_tiny_patch16_224", source="timm", task="instances")
    with pytest.raises(
        UserError, match=r"model\.task=instances: whether 'mine' finds masks is for its class \(m\.Mine\)"
    ):
        model_config("mine", source="custom", target="m.Mine", task="instances")


def test_operations_of_the_mask_head_are_counted() -> None:
    config = SMALL["rcnn"]
    head = MaskHead.of(config)
    assert head is not None
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        head(torch.zeros(5, 8, 14, 14))
    assert counter.get_total_flops() == mask_flops(config, 5)
    grid = config.region_grid(100, 140)
    boxes_only = msgspec.structs.replace(config, mask_head=None)
    assert rcnn_flops(config, grid) == rcnn_flops(boxes_only, grid) + mask_flops(config, 100)
    with pytest.raises(TypeError, match="small_rcnn has no mask head"):
        mask_flops(boxes_only, 1)
