from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
import torch

from vitmalis.detector import build_model, preset
from vitmalis.detector.config import PyramidConfig, VitConfig
from vitmalis.errors import UserError
from vitmalis.types import Detections
from vitmalis.video.standin import SceneFrame
from vitmalis_jobs.common.config import checked, compose
from vitmalis_jobs.training.detection.config import DetectorTrainingConfig, Stage, TrainOptions
from vitmalis_jobs.training.detection.detection_scores import score, score_line
from vitmalis_jobs.training.detection.labelled_clips import LabelledFrame
from vitmalis_jobs.training.detection.labels import Targets
from vitmalis_jobs.training.detection.rendered_source import RenderedSource
from vitmalis_jobs.training.detection.state import TrainingState, learning_rate_factor, make_optimisers
from vitmalis_jobs.training.detection.stream import TrainingStream, loader, stage_at
from vitmalis_jobs.training.detection.trainer import train, window_of_positions

STAGES = (
    Stage(until=0.5, batch=2, sizes=((64, 64), (96, 64)), scales=(0.5, 1.0)),
    Stage(until=1.0, batch=2, sizes=((128, 64),), scales=(1.0, 1.0)),
)


def tiny_model() -> torch.nn.Module:
    config = preset("vitdet_tiny")
    vit = msgspec.structs.replace(config.vit, embed_dim=32, depth=4, num_heads=2, window=2, position_grid=(8, 8))
    pyramid = PyramidConfig(strides=(8, 16, 32), channels=32)
    assert isinstance(vit, VitConfig)
    torch.manual_seed(3)
    return build_model(msgspec.structs.replace(config, vit=vit, pyramid=pyramid))


class Square:
    """A scene of one grey square whose place depends on profile, seed and frame."""

    def __init__(self, profile: str, seed: int) -> None:
        self.offset = seed % 7 + (20 if profile == "walkS" else 40)

    def render_full(self, frame_index: int) -> SceneFrame:
        start = self.offset + frame_index % 5
        image = np.full((128, 160, 3), 30, np.uint8)
        image[start : start + 40, start : start + 40] = 200
        box = [[start, start, start + 40, start + 40]]
        return SceneFrame(image, Detections.of(box, [1.0], [2]), np.ones(1, np.float32))


@pytest.fixture
def stream(tmp_path: Path) -> TrainingStream:
    frames = []
    for i in range(4):
        image = np.full((128, 160, 3), 10 * i, np.uint8)
        image[30:90, 40 + 5 * i : 80 + 5 * i] = 220
        cv2.imwrite(str(tmp_path / f"{i}.jpg"), image)
        frames.append(LabelledFrame(tmp_path / f"{i}.jpg", i, Targets.of([[40 + 5 * i, 30, 80 + 5 * i, 90]], [0])))
    rendered = RenderedSource(Square, ("walkS", "driveN"), 10_000, frames_per_scene=3)
    return TrainingStream(
        clips={"clip": frames}, weights={"clip": 1.0}, street=[], street_share=0.0, rendered=rendered,
        rendered_share=0.5, views_per_frame=2, stages=STAGES, seed=5,
    )  # fmt: skip


def options(steps: int) -> TrainOptions:
    overrides = (
        "train.hours=null", f"train.steps={steps}", "train.warm_up=0.1", "train.ema_decay=0.9", "train.clip_norm=1",
        "train.mixed_share=0.5", "train.bf16=false", "train.seed=5", "train.workers=0",
    )  # fmt: skip
    return checked(compose("train_detector", overrides), DetectorTrainingConfig).train


class Stop(Exception):
    pass


@pytest.mark.parametrize("muon", [False, True])
def test_a_run_resumed_equals_a_run_that_never_stopped(stream: TrainingStream, tmp_path: Path, muon: bool) -> None:
    torch.set_num_threads(1)
    whole = TrainingState.fresh(tiny_model(), 1e-3, 0.05, muon)
    uninterrupted: list[float] = []
    train(whole, stream, options(6), lambda losses, progress: uninterrupted.append(losses["classification"]))

    def stop_after_two(_losses: dict[str, float], _progress: float) -> None:
        if first.step == 2:
            first.save(tmp_path / "last.pt")
            raise Stop

    first = TrainingState.fresh(tiny_model(), 1e-3, 0.05, muon)
    with pytest.raises(Stop):
        train(first, stream, options(6), stop_after_two)
    torch.manual_seed(99)
    second = TrainingState.fresh(build_model(first.model.config), 1e-3, 0.05, muon)
    second.restore(tmp_path / "last.pt")
    assert second.step == 2
    resumed: list[float] = []
    train(second, stream, options(6), lambda losses, progress: resumed.append(losses["classification"]))

    assert resumed == uninterrupted[2:]
    for a, b in zip(whole.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(whole.ema.parameters(), second.ema.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    TrainingState.fresh(tiny_model(), 1e-3, 0.05).save(tmp_path / "last.pt")
    with pytest.raises(UserError, match=r"train\.folder"):
        TrainingState.fresh(torch.nn.Linear(2, 2), 1e-3, 0.05).restore(tmp_path / "last.pt")


def test_samples_are_a_function_of_their_place(stream: TrainingStream) -> None:
    image, targets = stream[(3, 1, 0)]
    for _ in range(2):
        stream[(8, 0, 1)]
        again, same = stream[(3, 1, 0)]
        assert torch.equal(image, again)
        assert (targets.boxes_xyxy == same.boxes_xyxy).all()
    other, _ = stream[(4, 1, 0)]
    assert image.shape != other.shape or not torch.equal(image, other)


def test_stages_follow_the_progress(stream: TrainingStream) -> None:
    assert [stage_at(STAGES, p) for p in (0, 0.49, 0.5, 1.0)] == [0, 0, 1, 1]
    batches = iter(loader(stream, 0, lambda batch: batch / 4, workers=0))
    sizes = [tuple(next(batches).images.shape[2:]) for _ in range(4)]
    assert all(size in {(64, 64), (64, 96)} for size in sizes[:2])
    assert sizes[2:] == [(64, 128)] * 2


def test_learning_rate_warms_up_and_falls() -> None:
    factors = [learning_rate_factor(p, 0.1) for p in (0.0, 0.05, 0.1, 0.55, 1.0)]
    assert factors[0] < factors[1] < factors[2] == pytest.approx(1.0)
    assert factors[3] == pytest.approx(0.505)
    assert factors[4] == pytest.approx(0.01)


def test_a_crop_gets_neighbouring_positions_of_the_full_table() -> None:
    model = tiny_model()
    vit = model.backbone.net
    table = vit.positions(8, 8)
    with window_of_positions(model, torch.Generator().manual_seed(0)):
        window = vit.positions(3, 4)
        whole = vit.positions(8, 8)
    places = [
        (top, left)
        for top in range(6)
        for left in range(5)
        if torch.equal(window, table[top : top + 3, left : left + 4])
    ]
    assert len(places) == 1
    assert torch.equal(whole, table)
    assert torch.equal(vit.positions(8, 8), table)


def test_scores_by_hand() -> None:
    truth = Targets.of([[0, 0, 40, 40], [100, 100, 140, 140], [200, 0, 300, 100]], [0, 2, -1])
    found = Detections.of(
        [[0, 0, 40, 30], [100, 100, 140, 140], [210, 10, 250, 50], [50, 50, 90, 90]], [0.9, 0.8, 0.7, 0.6], [0, 0, 0, 0]
    )
    # The person is found (IoU 0.75); the car is called a person; the third lies on an ignored box; the fourth is wrong.
    result = score([found], [truth])
    assert (result.precision, result.recall) == (pytest.approx(1 / 3), pytest.approx(1 / 2))
    assert result.f1 == pytest.approx(0.4)
    assert result.recall_by_class == {0: 1.0, 2: 0.0}
    assert result.best_f1 == pytest.approx(2 / 3)
    assert result.best_score > 0.8
    assert result.ap50 == pytest.approx(0.5)


def test_without_objects_there_are_no_scores() -> None:
    result = score([Detections.empty()], [Targets.of([], [])])
    assert (result.f1, result.precision, result.recall, result.ap50, result.best_f1) == (None,) * 5
    assert (result.f1_curve, result.objects) == ((), 0)
    assert score_line(result) == "F1 - (P - R -)  AP50 -  best F1 - at -  0 objects in 1 frames"
    wrong = score([Detections.of([[0, 0, 9, 9]], [0.9], [0])], [Targets.of([], [])])
    assert (wrong.f1, wrong.precision) == (None, 0.0)


def test_muon_takes_the_matrices_of_the_blocks_and_nothing_else() -> None:
    model = tiny_model()
    adamw, muon = make_optimisers(model, 1e-3, 0.05, muon=True)
    held = {id(p) for group in muon.param_groups for p in group["params"]}
    names = {name for name, p in model.named_parameters() if id(p) in held}
    assert names == {
        f"backbone.net.blocks.{i}.{part}.weight"
        for i in range(4)
        for part in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    }
    others = {id(p) for group in adamw.param_groups for p in group["params"]}
    assert held | others == {id(p) for p in model.parameters()}
    assert not held & others
    assert len(make_optimisers(model, 1e-3, 0.05, muon=False)) == 1
