"""Fine-tuning: training starts from a checkpoint, with another window than the checkpoint was trained with."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from vitmalis.detector import PRESETS, DetectorConfig, build_model, load_detector, preset, save_checkpoint
from vitmalis.detector.config import PyramidConfig
from vitmalis.errors import UserError
from vitmalis.types import Detections
from vitmalis.video.standin import SceneFrame
from vitmalis_jobs.common.config import checked, compose
from vitmalis_jobs.training.detection.config import DetectorTrainingConfig, Stage, StartOptions
from vitmalis_jobs.training.detection.rendered_source import RenderedSource
from vitmalis_jobs.training.detection.state import TrainingState
from vitmalis_jobs.training.detection.stream import TrainingStream
from vitmalis_jobs.training.detection.trainer import train
from vitmalis_jobs.training.detector import initial_model


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> DetectorConfig:
    """A small preset with relative positions, whose tables depend on the window."""
    tiny = preset("vitdet_tiny")
    vit = msgspec.structs.replace(
        tiny.vit,
        embed_dim=32,
        depth=4,
        num_heads=2,
        window=4,
        position_grid=(8, 8),
        relative_positions=True,
        relative_grid=8,
    )
    config = msgspec.structs.replace(
        tiny, name="small", vit=vit, pyramid=PyramidConfig(strides=(8, 16, 32), channels=32)
    )
    monkeypatch.setitem(PRESETS, "small", config)
    return config


@pytest.fixture
def weights(small: DetectorConfig, tmp_path: Path) -> Path:
    torch.manual_seed(4)
    model = build_model(small)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "rel_pos" in name:
                value.normal_(std=0.2)
    save_checkpoint(model, tmp_path / "window4.pt", {})
    return tmp_path / "window4.pt"


def start(weights: Path | None, window: int | None) -> StartOptions:
    return StartOptions(weights=None if weights is None else str(weights), window=window)


class Square:
    """A scene of one grey square."""

    def __init__(self, profile: str, seed: int) -> None:
        self.start = 20 + seed % 7

    def render_full(self, frame_index: int) -> SceneFrame:
        image = np.full((64, 64, 3), 30, np.uint8)
        image[self.start : self.start + 30, self.start : self.start + 30] = 200
        box = [[self.start, self.start, self.start + 30, self.start + 30]]
        return SceneFrame(image, Detections.of(box, [1.0], [2]), np.ones(1, np.float32))


def test_starts_from_the_checkpoint_with_the_other_window(weights: Path) -> None:
    model = initial_model("small", start(weights, 3))
    assert model.config.geometry.window == 3
    own = initial_model("small", start(weights, None))
    assert own.config == PRESETS["small"]
    for name, value in own.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)
    fresh = initial_model("small", start(None, None))
    assert not torch.equal(fresh.backbone.net.blocks[0].attn.rel_pos_h, own.backbone.net.blocks[0].attn.rel_pos_h)


def test_weights_of_another_model_are_refused(weights: Path) -> None:
    with pytest.raises(UserError, match=r"window4\.pt' do not fit"):
        initial_model("vitdet_tiny", start(weights, None))


def test_fine_tuning_learns_the_tables_and_the_result_loads(weights: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    overrides = ("train.hours=null", "train.steps=3", "train.seed=5", "train.workers=0", "train.bf16=false")
    options = checked(compose("train_detector", overrides), DetectorTrainingConfig).train
    rendered = RenderedSource(Square, ("walkS",), 10_000, frames_per_scene=3)
    stages = (Stage(until=1.0, batch=2, sizes=((64, 64),), scales=(1.0, 1.0)),)
    stream = TrainingStream({}, {}, [], 0.0, rendered, 1.0, 2, stages, seed=5)
    model = initial_model("small", start(weights, 3))
    before = model.backbone.net.blocks[0].attn.rel_pos_h.clone()
    state = TrainingState.fresh(model, options.learning_rate, options.weight_decay)
    train(state, stream, options, lambda *_: None)
    after = state.model.backbone.net.blocks[0].attn.rel_pos_h
    assert after.shape == before.shape
    assert after.isfinite().all()
    assert not torch.equal(after, before)
    save_checkpoint(state.model, tmp_path / "window3.pt", {"window": 3})
    detector = load_detector("small", weights=tmp_path / "window3.pt", window=3)
    assert detector.config.geometry.window == 3
    detector.detect(np.zeros((128, 128, 3), np.uint8))
