"""Detectron2 at mixed resolution: modules of its structure with our layers, and its own code where it is installed."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.detector.library_vits import Detectron2ViT, vitdet
from vitmalis.detector import load_detector, model_config
from vitmalis.detector.checkpoint import load_into
from vitmalis.detector.config import DetectorConfig, MaskConfig, PyramidConfig, RcnnConfig, VitConfig
from vitmalis.detector.detector import Detector
from vitmalis.detector.detectron2_detector import Images, adapted_detector, plain_values, resized_masks
from vitmalis.detector.pyramid import pyramid_stage
from vitmalis.detector.rcnn import BoxHeads, RcnnDetector, select_boxes
from vitmalis.detector.rpn import Proposals, RegionProposals
from vitmalis.errors import UserError
from vitmalis.types import Detections

HEAD = RcnnConfig(box_convs=(8, 8), box_width=16, proposals=50, score_threshold=0.0)
CONFIG = DetectorConfig(
    name="small",
    vit=VitConfig(
        embed_dim=24,
        depth=4,
        num_heads=2,
        subsets=2,
        window=2,
        position_grid=(8, 8),
        relative_grid=8,
        class_position=True,
    ),
    pyramid=PyramidConfig(channels=8),
    head=HEAD,
)


class SimpleFeaturePyramid(nn.Module):
    """Detectron2's forward pass, on our stages."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.in_feature = "last_feat"
        self._out_features = ["p2", "p3", "p4", "p5", "p6"]
        self.stages = [pyramid_stage(stride, 24, 8) for stride in (4, 8, 16, 32)]
        for index, stage in enumerate(self.stages, 2):
            self.add_module(f"simfp_{index}", stage)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.net(x)[self.in_feature]
        levels = [stage(features) for stage in self.stages]
        return dict(zip(self._out_features, [*levels, levels[-1][..., ::2, ::2]], strict=True))


class ProposalGenerator(RegionProposals):
    """Our region proposals with the signature of detectron2's."""

    def forward(self, images: Any, features: dict[str, Tensor], targets: None = None) -> Any:  # type: ignore[override]
        proposals = super().forward(list(features.values()), images.image_sizes)
        return [(size, own) for size, own in zip(images.image_sizes, proposals, strict=True)], {}


class RoiHeads(BoxHeads):
    """Our box heads with the signature and result of detectron2's."""

    num_classes = 80
    mask_on = True

    def forward(self, images: Any, features: dict[str, Tensor], proposals: Any, targets: None = None) -> Any:  # type: ignore[override]
        return [self._one(features, index, *given) for index, given in enumerate(proposals)], {}

    def _one(self, features: dict[str, Tensor], index: int, size: tuple[int, int], proposals: Proposals) -> Any:
        levels = [level[index : index + 1] for level in features.values()]
        found = select_boxes(*super().forward(levels, proposals.boxes), size, HEAD, range(80))
        boxes, scores, labels = map(torch.from_numpy, (found.boxes_xyxy, found.scores, found.labels))
        given = {"pred_masks": self._masks(levels, found)} if self.mask_on else {}
        return SimpleNamespace(pred_boxes=SimpleNamespace(tensor=boxes), scores=scores, pred_classes=labels, **given)

    def _masks(self, levels: list[Tensor], found: Detections) -> Tensor:
        """Probabilities (P, 1, 28, 28), as detectron2's mask head gives them."""
        assert self.mask_head is not None
        boxes, labels = torch.from_numpy(found.boxes_xyxy), torch.from_numpy(found.labels)
        return self.mask_head.logits(levels, boxes)[torch.arange(len(found)), labels, None].sigmoid()


class GeneralizedRCNN(nn.Module):
    """Detectron2's parts under its names."""

    input_format = "RGB"

    def __init__(self, config: DetectorConfig = CONFIG) -> None:
        super().__init__()
        self.backbone = SimpleFeaturePyramid(Detectron2ViT(vitdet().config))
        self.proposal_generator = ProposalGenerator(8, (4, 8, 16, 32, 64), HEAD)
        self.roi_heads = RoiHeads(config, HEAD)
        self.register_buffer("pixel_mean", torch.tensor(CONFIG.pixel_mean).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(CONFIG.pixel_std).view(3, 1, 1), persistent=False)


@pytest.fixture(scope="module")
def ours() -> RcnnDetector:
    torch.manual_seed(0)
    model = RcnnDetector(CONFIG, HEAD).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if "rel_pos" in name or "pos_embed" in name:
            nn.init.normal_(parameter, std=0.3)
    return model


def theirs(ours: RcnnDetector) -> GeneralizedRCNN:
    model = GeneralizedRCNN()
    load_into(model, ours.state_dict(), "ours")
    return model


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (150, 250, 3), np.uint8)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("point", [None, 0, 1, 2])
def test_boxes_are_those_of_our_model_with_the_same_weights(
    ours: RcnnDetector, image: np.ndarray, point: int | None, precision: str
) -> None:
    adapted = Detector(adapted_detector(theirs(ours), {}), weights_sha256="0", precision=precision)
    built_in = Detector(ours, weights_sha256="0", precision=precision)
    assert adapted.geometry == built_in.geometry
    mask = None if point is None else np.random.default_rng(1).random((3, 4)) < 0.5
    found, expected = (model.detect(image, mask, point or 0) for model in (adapted, built_in))
    assert len(found) == len(expected) > 0
    if precision == "fp32":
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
        np.testing.assert_allclose(found.boxes_xyxy, expected.boxes_xyxy, atol=1e-2)


def test_masks_are_those_of_our_model_with_the_same_weights(image: np.ndarray) -> None:
    config = msgspec.structs.replace(CONFIG, mask_head=MaskConfig(convs=(8,)))
    torch.manual_seed(0)
    ours = RcnnDetector(config, HEAD).eval().requires_grad_(False)
    library = GeneralizedRCNN(config)
    load_into(library, ours.state_dict(), "ours")
    adapted = Detector(adapted_detector(library, {}, masks=True), weights_sha256="0")
    found, expected = (detector.detect(image) for detector in (adapted, Detector(ours, weights_sha256="0")))
    assert len(found) == len(expected) > 0
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    assert found.masks is not None
    assert expected.masks is not None
    assert (np.abs(found.masks.astype(int) - expected.masks) <= 17).mean() > 0.99  # rounding may cross a level
    boxes_only = Detector(adapted_detector(GeneralizedRCNN(config), {}), weights_sha256="0")
    assert adapted.model_id != boxes_only.model_id
    assert boxes_only.detect(image).masks is None


def test_masks_of_another_size_are_resized() -> None:
    columns = (torch.arange(14) >= 7).float().expand(2, 1, 14, 14)
    assert torch.equal(resized_masks(columns).round(), (torch.arange(28) >= 14).float().expand(2, 28, 28))


def test_a_batch_of_patches_with_masks_of_their_own(ours: RcnnDetector, image: np.ndarray) -> None:
    adapted = Detector(adapted_detector(theirs(ours), {}), weights_sha256="0")
    masks = [np.arange(12).reshape(3, 4) == index for index in (0, 5)]
    patches = [np.random.default_rng(2).integers(0, 256, (148, 16, 16, 3), np.uint8) for _ in masks]
    together = adapted.detect_patches_each(patches, (150, 250), masks, 1)
    for found, own, mask in zip(together, patches, masks, strict=True):
        alone = adapted.detect_patches(own, (150, 250), mask, 1)
        np.testing.assert_allclose(found.scores, alone.scores, atol=1e-5)


def test_the_model_id_covers_the_description(ours: RcnnDetector) -> None:
    described = [{"vit": {"depth": 4, "norm": partial}}, {"vit": {"norm": partial, "depth": 4}}, {"vit": {"depth": 8}}]
    same, reordered, other = (
        Detector(adapted_detector(theirs(ours), own), weights_sha256="0").model_id for own in described
    )
    assert same == reordered != other
    narrow = Detector(adapted_detector(theirs(ours), described[0], window=3), weights_sha256="0")
    assert narrow.model_id != same
    assert narrow.geometry.window == 3


def test_a_description_names_functions_and_classes() -> None:
    node = {"_target_": RcnnDetector, "sizes": (32, 64), "norm": None, "path": Path("x")}
    assert plain_values(node) == {
        "_target_": "vitmalis.detector.rcnn.RcnnDetector",
        "norm": None,
        "path": repr(Path("x")),
        "sizes": [32, 64],
    }


def test_what_is_no_vitdet_of_coco_is_refused(ours: RcnnDetector) -> None:
    with pytest.raises(UserError, match=r"Linear has no 'backbone.net': mixed resolution needs a GeneralizedRCNN"):
        adapted_detector(nn.Linear(1, 1), {})
    model = theirs(ours)
    model.roi_heads.num_classes = 1203
    with pytest.raises(UserError, match="the model has 1203 classes, but only models of COCO's 80 classes"):
        adapted_detector(model, {})
    model.roi_heads.mask_on, model.roi_heads.num_classes = False, 80
    with pytest.raises(UserError, match=r"model\.task=instances: the model of model\.config has no mask head"):
        adapted_detector(model, {}, masks=True)
    model.input_format = "BGR"
    with pytest.raises(UserError, match="the model takes BGR images, but frames are RGB"):
        adapted_detector(model, {})


def test_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "detectron2", None)
    with pytest.raises(UserError, match=r"needs detectron2.*pip install 'vitmalis\[detectron2\]'") as raised:
        load_detector("detectron2", source="detectron2", config="vitdet.py", weights="weights.pkl")
    assert "\n" not in str(raised.value)


def test_config_files_belong_to_detectron2() -> None:
    for options in ({"source": "detectron2"}, {"source": "timm", "config": "x.py"}, {"config": "x.py"}):
        with pytest.raises(UserError, match="do not go together"):
            model_config("vitdet_tiny", **options)
    with pytest.raises(UserError, match=r"model\.source=mmdet is unknown; choose one of builtin, timm, detectron2"):
        model_config("x", source="mmdet")  # type: ignore[arg-type]


LAZY_CONFIG = """
from detectron2 import model_zoo

model = model_zoo.get_config("common/models/mask_rcnn_vitdet.py").model
model.backbone.net.embed_dim = 96
model.backbone.net.depth = 4
model.backbone.net.num_heads = 3
model.backbone.net.window_size = 7
model.backbone.net.window_block_indexes = [0, 2]
model.roi_heads.box_predictor.test_score_thresh = 0.0
"""


def test_detectron2_itself(tmp_path: Path, image: np.ndarray) -> None:
    """Its own code from the configuration to boxes; nothing low equals its own inference on the same padded image."""
    pytest.importorskip("detectron2.modeling")
    path = tmp_path / "vitdet.py"
    path.write_text(LAZY_CONFIG)
    from vitmalis.detector.detectron2_detector import read_model

    _, model = read_model(path)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    detector = load_detector("detectron2", source="detectron2", config=path, weights=tmp_path / "weights.pth")
    assert msgspec.structs.astuple(detector.geometry) == (7, 2, 16, 2)
    padded = np.zeros((160, 256, 3), np.uint8)
    padded[:150, :250] = image
    model.eval().roi_heads.mask_on = False
    with torch.inference_mode():
        pixels = (torch.from_numpy(padded).permute(2, 0, 1).float() - model.pixel_mean) / model.pixel_std
        pixels[:, 150:], pixels[:, :, 250:] = 0, 0
        features = model.backbone(pixels[None])
        proposals, _ = model.proposal_generator(Images(None, [(150, 250)]), features, None)
        (expected,), _ = model.roi_heads(None, features, proposals, None)
    found = detector.detect(image)
    assert len(found) == len(expected) > 0
    np.testing.assert_allclose(found.scores, expected.scores.numpy(), atol=1e-4)
    np.testing.assert_allclose(np.sort(found.boxes_xyxy, 0), np.sort(expected.pred_boxes.tensor.numpy(), 0), atol=0.1)
    mask = np.ones(detector.geometry.grid(250, 150).shape, bool)
    for point in range(3):
        assert len(detector.detect(image, mask, point)) > 0
