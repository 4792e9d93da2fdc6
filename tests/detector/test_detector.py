"""The one class that the rest of the system uses, and what it says when something is wrong."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from vitmalis.detector import Detector, checked_device, chosen_device, load_detector
from vitmalis.detector.build import build_model
from vitmalis.detector.checkpoint import save_checkpoint
from vitmalis.detector.config import PRESETS, DetectorConfig, VitConfig, preset
from vitmalis.detector.detector import EMBEDDED_WEIGHTS, weights_path
from vitmalis.errors import UserError
from vitmalis.types import COCO_CLASSES


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "random.pt"
    save_checkpoint(build_model(preset("vitdet_tiny")), path, {"seed": 0})
    return path


@pytest.fixture(scope="module")
def detector(weights: Path) -> Detector:
    return load_detector("vitdet_tiny", weights=weights)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (100, 150, 3), np.uint8)


def test_detections_are_in_pixels_of_the_image(detector: Detector, image: np.ndarray) -> None:
    detections = detector.detect(image)
    assert len(detections) > 0
    assert detections.boxes_xyxy.dtype == np.float32
    assert (detections.boxes_xyxy >= 0).all()
    assert (detections.boxes_xyxy <= [150, 100, 150, 100]).all()
    assert set(detections.labels) <= {0, 1, 2, 5, 9}
    assert (np.diff(detections.scores) <= 0).all()


def test_the_same_image_gives_the_same_boxes(detector: Detector, weights: Path, image: np.ndarray) -> None:
    again = load_detector("vitdet_tiny", weights=weights)
    assert again.model_id == detector.model_id
    mirrored_view = image[:, ::-1][:, ::-1]  # negative strides, same pixels
    for other in (again.detect(image), detector.detect(mirrored_view)):
        assert np.array_equal(other.boxes_xyxy, detector.detect(image).boxes_xyxy)


def test_what_is_it(detector: Detector) -> None:
    assert detector.name == "vitdet_tiny"
    assert detector.classes == ("person", "bicycle", "car", "bus", "traffic light")
    assert detector.metadata == {"seed": 0}
    assert len(detector.model_id) == 12


def test_model_id_follows_weights_and_precision(detector: Detector, weights: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    save_checkpoint(build_model(preset("vitdet_tiny")), tmp_path / "other.pt", {})
    other = load_detector("vitdet_tiny", weights=tmp_path / "other.pt")
    coarse = load_detector("vitdet_tiny", weights=weights, precision="bf16")
    assert len({detector.model_id, other.model_id, coarse.model_id}) == 3


def test_bf16_runs(weights: Path, image: np.ndarray) -> None:
    assert len(load_detector("vitdet_tiny", weights=weights, precision="bf16").detect(image)) > 0


def test_wrong_names_are_refused(weights: Path) -> None:
    with pytest.raises(UserError, match="'yolo' is unknown; choose one of vitdet_tiny, vitdet_b, vitdet_l, vitdet_h"):
        load_detector("yolo")
    with pytest.raises(UserError, match=r"model\.device=warp is not available here .*: choose cpu, or auto"):
        load_detector("vitdet_tiny", weights=weights, device="warp")
    with pytest.raises(UserError, match="precision 'fp8' is unknown; choose one of fp32, tf32, bf16, fp16"):
        load_detector("vitdet_tiny", weights=weights, precision="fp8")
    with pytest.raises(UserError, match=r"random\.pt' do not fit"):
        load_detector("vitdet_b", weights=weights)


def test_random_weights_are_the_same_in_every_process(image: np.ndarray) -> None:
    torch.manual_seed(1906)
    state = torch.get_rng_state()
    first = load_detector("vitdet_tiny", weights="random")
    assert torch.equal(torch.get_rng_state(), state), "they leave the generator of others alone"
    torch.rand(5)
    second = load_detector("vitdet_tiny", weights="random")
    assert first.model_id == second.model_id != load_detector("vitdet_tiny").model_id
    boxes, again = first.detect(image), second.detect(image)
    assert np.array_equal(boxes.boxes_xyxy, again.boxes_xyxy)
    assert np.array_equal(boxes.scores, again.scores)


def test_a_large_model_needs_no_download_with_random_weights() -> None:
    assert weights_path(preset("vitdet_l"), "random") is None


def test_auto_is_a_device_of_this_machine(weights: Path) -> None:
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert chosen_device("auto") == expected
    assert load_detector("vitdet_tiny", weights=weights, device="auto").device.type == expected
    assert chosen_device("cuda:7") == "cuda:7"


@pytest.mark.parametrize("name", ["meta", "vulkan", "cuda:99"])
def test_devices_that_cannot_compute_here_are_refused_in_a_line(name: str) -> None:
    with pytest.raises(UserError, match=rf"^model\.device={name} is not available here \(.*: choose cpu") as caught:
        checked_device(name)
    assert len(str(caught.value)) < 300


def test_another_window(detector: Detector, weights: Path, image: np.ndarray) -> None:
    other = load_detector("vitdet_tiny", weights=weights, window=3)
    assert other.config.geometry.window == 3
    assert other.model_id != detector.model_id
    assert not np.array_equal(other.detect(image).scores, detector.detect(image).scores)
    assert load_detector("vitdet_tiny", weights=weights, window=5).model_id == detector.model_id
    with pytest.raises(UserError, match=r"model\.window=0: give 1 to 64 tokens"):
        load_detector("vitdet_tiny", weights=weights, window=0)


def test_relative_positions_of_another_window_are_resized() -> None:
    """Running with other windows is resizing the tables of window blocks beforehand, as upstream's function does."""
    torch.manual_seed(0)
    config = DetectorConfig(
        name="small", vit=VitConfig(embed_dim=16, depth=4, num_heads=2, subsets=2, window=7, relative_grid=8)
    )
    wide = build_model(config)
    state = {name: torch.randn_like(value) * 0.2 for name, value in wide.state_dict().items()}
    narrow = build_model(config.with_geometry(4))
    narrow.load_state_dict(state)
    native = build_model(msgspec.structs.replace(config, vit=msgspec.structs.replace(config.vit, window=4)))
    for block in (0, 2):
        for axis in "hw":
            name = f"backbone.net.blocks.{block}.attn.rel_pos_{axis}"
            table = torch.nn.functional.interpolate(state[name].t()[None], size=7, mode="linear")[0].t()
            state[name] = table
    native.load_state_dict(state)
    images = torch.randn(1, 3, 160, 96)
    with torch.inference_mode():
        assert torch.equal(narrow.backbone.net(images), native.backbone.net(images))
        wide.load_state_dict(narrow.state_dict())
        assert not torch.allclose(wide.backbone.net(images), native.backbone.net(images), atol=1e-2)


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)],
)
def test_wrong_images_are_refused(detector: Detector, wrong: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"RGB uint8 \(height, width, 3\), not"):
        detector.detect(wrong)


def test_presets_say_what_their_users_rely_on() -> None:
    assert PRESETS["vitdet_l"].vit.global_blocks == (5, 11, 17, 23)
    assert PRESETS["vitdet_b"].vit.global_blocks == (2, 5, 8, 11)
    assert PRESETS["vitdet_h"].vit.global_blocks == (7, 15, 23, 31)
    assert PRESETS["vitdet_tiny"].vit.global_blocks == (1, 3, 5, 7)
    assert [COCO_CLASSES[c] for c in PRESETS["vitdet_tiny"].classes[3:]] == ["bus", "traffic light"]
    for config in PRESETS.values():
        assert msgspec.json.decode(msgspec.json.encode(config), type=DetectorConfig) == config


def test_a_config_that_cannot_be_built_is_refused() -> None:
    with pytest.raises(UserError, match="embed_dim 100 must be a multiple of num_heads 3"):
        VitConfig(embed_dim=100, depth=8, num_heads=3)


@pytest.mark.parametrize("name", EMBEDDED_WEIGHTS)
def test_embedded_weights_load_and_fit_a_repository(name: str) -> None:
    assert load_detector(name).metadata
    assert weights_path(preset(name), None).stat().st_size < 12e6
