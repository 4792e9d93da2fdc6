from dataclasses import replace
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
from vitmalis_jobs.common.config import checked, compose
from vitmalis_jobs.training.detection.batches import Batches, CpuBatches, DeviceBatches
from vitmalis_jobs.training.detection.config import DetectorTrainingConfig, Stage, TrainOptions, WholeFrameOptions
from vitmalis_jobs.training.detection.detection_scores import score, score_line
from vitmalis_jobs.training.detection.device_frames import DeviceFrames
from vitmalis_jobs.training.detection.labelled_clips import LabelledFrame
from vitmalis_jobs.training.detection.labels import Targets
from vitmalis_jobs.training.detection.state import TrainingState, learning_rate_factor, make_optimisers
from vitmalis_jobs.training.detection.step_log import StepLog
from vitmalis_jobs.training.detection.stream import Source, TrainingStream, stage_at
from vitmalis_jobs.training.detection.trainer import StepReport, train, window_of_positions

STAGES = (
    Stage(until=0.5, batch=2, sizes=((64, 64), (96, 64)), scales=(0.5, 1.0)),
    Stage(until=1.0, batch=2, sizes=((128, 64),), scales=(1.0, 1.0)),
)
WHOLE_FRAMES = WholeFrameOptions(share=0.3, size=(96, 64), batch=3)


def tiny_model() -> torch.nn.Module:
    config = preset("vitdet_tiny")
    vit = msgspec.structs.replace(config.vit, embed_dim=32, depth=4, num_heads=2, window=2, position_grid=(8, 8))
    pyramid = PyramidConfig(strides=(8, 16, 32), channels=32)
    assert isinstance(vit, VitConfig)
    torch.manual_seed(3)
    return build_model(msgspec.structs.replace(config, vit=vit, pyramid=pyramid))


@pytest.fixture
def stream(tmp_path: Path) -> TrainingStream:
    """Two sources of small frames, one of two sizes."""
    sources = []
    for name, width in (("clip", 160), ("street", 120)):
        frames = []
        for i in range(4):
            image = np.full((128, width + 10 * (i % 2), 3), 10 * i, np.uint8)
            image[30:90, 40 + 5 * i : 80 + 5 * i] = 220
            path = tmp_path / f"{name}{i}.png"
            cv2.imwrite(str(path), image)
            targets = Targets.of([[40 + 5 * i, 30, 80 + 5 * i, 90]], [0])
            frames.append(LabelledFrame(path, i, (image.shape[1], image.shape[0]), targets))
        sources.append(Source(name, frames, 0.5))
    return TrainingStream(tuple(sources), STAGES, WHOLE_FRAMES, batch_scale=1, seed=5)


def batches_of(stream: TrainingStream, kind: str) -> Batches:
    """The batches of a stream as the CPU or another device makes them; here that is the CPU as well."""
    if kind == "opencv":
        return CpuBatches(stream, workers=0)
    return DeviceBatches(stream, 0, DeviceFrames.load(stream.frames, torch.device("cpu"), 1))


def options(steps: int) -> TrainOptions:
    overrides = (
        "train.hours=null", f"train.steps={steps}", "train.warm_up=0.1", "train.ema_decay=0.9", "train.clip_norm=1",
        "train.mixed_share=0.5", "train.bf16=false", "train.seed=5", "train.workers=0",
    )  # fmt: skip
    return checked(compose("train_detector", overrides), DetectorTrainingConfig).train


class Stop(Exception):
    pass


@pytest.mark.parametrize(("kind", "muon"), [("opencv", False), ("opencv", True), ("device", True)])
def test_a_run_resumed_equals_a_run_that_never_stopped(
    stream: TrainingStream, tmp_path: Path, kind: str, muon: bool
) -> None:
    torch.set_num_threads(1)
    batches = batches_of(stream, kind)
    whole = TrainingState.fresh(tiny_model(), 1e-3, 0.05, muon)
    uninterrupted: list[float] = []
    train(whole, batches, options(6), lambda report: uninterrupted.append(float(report.values["classification"])))

    def stop_after_two(_report: StepReport) -> None:
        if first.step == 2:
            first.save(tmp_path / "last.pt")
            raise Stop

    first = TrainingState.fresh(tiny_model(), 1e-3, 0.05, muon)
    with pytest.raises(Stop):
        train(first, batches, options(6), stop_after_two)
    torch.manual_seed(99)
    second = TrainingState.fresh(build_model(first.model.config), 1e-3, 0.05, muon)
    second.restore(tmp_path / "last.pt")
    assert second.step == 2
    resumed: list[float] = []
    train(second, batches, options(6), lambda report: resumed.append(float(report.values["classification"])))

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
    sample = stream[(3, 1, 0)]
    for _ in range(2):
        stream[(8, 0, 1)]
        again = stream[(3, 1, 0)]
        assert (again.frame, again.view, again.distortion) == (sample.frame, sample.view, sample.distortion)
        assert (again.targets.boxes_xyxy == sample.targets.boxes_xyxy).all()
    assert stream[(4, 1, 0)].view != sample.view


def test_sources_are_drawn_by_their_shares(stream: TrainingStream) -> None:
    clip, street = stream.sources
    uneven = replace(stream, sources=(replace(clip, share=3.0), street))
    drawn = [uneven[(batch, 0, 0)].frame for batch in range(400)]
    assert set(drawn) == set(range(8))
    of_clip = sum(frame < 4 for frame in drawn) / len(drawn)
    assert of_clip == pytest.approx(3 / 3.5, abs=0.06)  # three standard deviations of 400 draws


def test_stages_follow_the_progress_and_the_batch_scale(stream: TrainingStream) -> None:
    assert [stage_at(STAGES, p) for p in (0, 0.49, 0.5, 1.0)] == [0, 0, 1, 1]
    crops = replace(stream, whole_frames=WholeFrameOptions(share=0, size=(64, 64), batch=1), batch_scale=2)
    supply = CpuBatches(crops, 0).from_batch(0, lambda batch: batch / 4)
    sizes = [tuple(next(supply).images.shape) for _ in range(4)]
    assert all(size in {(4, 3, 64, 64), (4, 3, 64, 96)} for size in sizes[:2])
    assert sizes[2:] == [(4, 3, 64, 128)] * 2


def test_a_share_of_the_batches_shows_whole_frames(stream: TrainingStream) -> None:
    plans = [stream.plan(batch, stage) for batch in range(200) for stage in (0, 1)]
    whole = [plan for plan in plans if plan.whole_frames]
    assert {(plan.samples, plan.size) for plan in whole} == {(3, (96, 64))}
    assert len(whole) / len(plans) == pytest.approx(WHOLE_FRAMES.share, abs=0.1)
    batch = next(number for number in range(20) if stream.plan(number, 0).whole_frames)
    for place in range(3):
        sample = stream[(batch, place, 0)]
        assert sample.whole_frame
        assert 0.8 * 0.5 <= sample.view.scale <= 0.5 + 1e-9  # 128 rows in 64
        assert len(sample.targets.objects()) == 1


def test_a_device_makes_the_batches_that_workers_make(stream: TrainingStream) -> None:
    """The same frames, views, targets and distortions; only the noise is another."""
    ours, theirs = (batches_of(stream, kind).from_batch(0, lambda _: 0.0) for kind in ("device", "opencv"))
    for number in range(8):
        a, b = next(ours), next(theirs)
        assert a.images.shape == b.images.shape
        assert a.whole_frames == b.whole_frames == stream.plan(number, 0).whole_frames
        assert all(map(torch.equal, a.targets, b.targets))
        for place, (image, expected) in enumerate(zip(a.images, b.images, strict=True)):
            noise = 255 * stream[(number, place, 0)].distortion.noise
            assert (image - expected.float()).abs().mean() < 1 + 1.5 * noise  # a flat area may be rounded otherwise


def test_worker_processes_make_the_same_batches(stream: TrainingStream) -> None:
    here, there = (next(CpuBatches(stream, workers).from_batch(2, lambda _: 0.0)) for workers in (0, 1))
    assert torch.equal(here.images, there.images)
    assert all(map(torch.equal, here.targets, there.targets))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no GPU on this machine")
def test_a_gpu_makes_the_images_of_the_cpu_and_trains(stream: TrainingStream) -> None:
    device = torch.device("cuda")
    here, there = (
        DeviceBatches(stream, 0, DeviceFrames.load(stream.frames, each, 1)) for each in (torch.device("cpu"), device)
    )
    a, b = next(here.from_batch(0, lambda _: 0.0)), next(there.from_batch(0, lambda _: 0.0))
    assert (a.images - b.images.cpu()).abs().mean() < 15  # the noise is another one
    state = TrainingState.fresh(tiny_model().to(device), 1e-3, 0.05, muon=True)
    reports: list[StepReport] = []
    train(state, there, options(3), reports.append)
    assert all(value.isfinite() for report in reports for value in report.values.values())


def test_means_of_steps_and_their_throughput() -> None:
    steps = StepLog(10)
    assert steps.means() == {}
    for loss, rate in ((1.0, 0.2), (3.0, 0.4)):
        values = {"boxes": torch.tensor(loss), "gradient_norm": torch.tensor(5.0)}
        steps.add(StepReport(values, rate, 0.5, views=8, seconds=2.0, waited_s=0.5))
    assert steps.means() == pytest.approx(
        {"boxes": 2.0, "gradient_norm": 5.0, "learning_rate": 0.3, "views_per_s": 4.0, "waiting_share": 0.25}
    )
    assert steps.means() == {}


def test_a_loss_that_is_not_finite_ends_the_run_and_names_the_step() -> None:
    steps = StepLog(10)
    for loss in (1.0, float("nan"), 2.0):
        steps.add(StepReport({"boxes": torch.tensor(loss)}, 0.1, 0.5, views=8, seconds=1.0, waited_s=0.0))
    with pytest.raises(UserError, match=r"boxes is nan in step 12: .*train\.learning_rate"):
        steps.means()


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
