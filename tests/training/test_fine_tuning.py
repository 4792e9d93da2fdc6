"""Fine-tuning: training starts from a checkpoint, with another window than the checkpoint was trained with."""

from importlib.resources import files
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
import torch

from vitmalis.detector import (
    PRESETS,
    DetectorConfig,
    build_model,
    load_checkpoint,
    load_detector,
    preset,
    save_checkpoint,
)
from vitmalis.detector.config import PyramidConfig
from vitmalis.errors import UserError
from vitmalis_jobs.common.config import checked, compose
from vitmalis_jobs.training.detection.batches import CpuBatches
from vitmalis_jobs.training.detection.config import DetectorTrainingConfig, Stage, StartOptions, WholeFrameOptions
from vitmalis_jobs.training.detection.labelled_clips import LabelledFrame
from vitmalis_jobs.training.detection.labels import Targets
from vitmalis_jobs.training.detection.state import TrainingState
from vitmalis_jobs.training.detection.stream import Source, TrainingStream
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


def one_frame(folder: Path) -> LabelledFrame:
    """A frame of one grey square."""
    image = np.full((64, 64, 3), 30, np.uint8)
    image[20:50, 20:50] = 200
    cv2.imwrite(str(folder / "square.png"), image)
    return LabelledFrame(folder / "square.png", 0, (64, 64), Targets.of([[20, 20, 50, 50]], [2]))


def test_starts_from_the_checkpoint_with_the_other_window(weights: Path) -> None:
    model = initial_model("small", start(weights, 3))
    assert model.config.geometry.window == 3
    own = initial_model("small", start(weights, None))
    assert own.config == PRESETS["small"]
    for name, value in own.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)
    fresh = initial_model("small", start(None, None))
    assert not torch.equal(fresh.backbone.net.blocks[0].attn.rel_pos_h, own.backbone.net.blocks[0].attn.rel_pos_h)


def test_a_run_starts_from_the_weights_in_the_package_unless_told_to_start_from_scratch() -> None:
    shipped, _ = load_checkpoint(Path(str(files("vitmalis.detector"))) / "weights" / "vitdet_tiny.pt")
    model, scratch = (initial_model("vitdet_tiny", StartOptions(weights, window=None)) for weights in (None, "random"))
    name = "backbone.net.blocks.0.attn.qkv.weight"
    assert torch.equal(model.state_dict()[name], shipped[name])
    assert not torch.equal(scratch.state_dict()[name], shipped[name])


def test_weights_of_another_model_are_refused(weights: Path) -> None:
    with pytest.raises(UserError, match=r"window4\.pt' do not fit"):
        initial_model("vitdet_tiny", start(weights, None))


def test_fine_tuning_learns_the_tables_and_the_result_loads(weights: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    overrides = ("train.hours=null", "train.steps=3", "train.seed=5", "train.workers=0", "train.bf16=false")
    options = checked(compose("train_detector", overrides), DetectorTrainingConfig).train
    stages = (Stage(until=1.0, batch=2, sizes=((64, 64),), scales=(1.0, 1.0)),)
    whole_frames = WholeFrameOptions(share=0.0, size=(64, 64), batch=2)
    stream = TrainingStream((Source("square", [one_frame(tmp_path)], 1.0),), stages, whole_frames, 1, seed=5)
    model = initial_model("small", start(weights, 3))
    before = model.backbone.net.blocks[0].attn.rel_pos_h.clone()
    state = TrainingState.fresh(model, options.learning_rate, options.weight_decay)
    train(state, CpuBatches(stream, 0), options, lambda _: None)
    after = state.model.backbone.net.blocks[0].attn.rel_pos_h
    assert after.shape == before.shape
    assert after.isfinite().all()
    assert not torch.equal(after, before)
    save_checkpoint(state.model, tmp_path / "window3.pt", {"window": 3})
    detector = load_detector("small", weights=tmp_path / "window3.pt", window=3)
    assert detector.config.geometry.window == 3
    detector.detect(np.zeros((128, 128, 3), np.uint8))
