"""Training of a mask head: what it learns from, that it resumes exactly, and that nothing else changes."""

from dataclasses import replace
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
import torch

from vitmalis.detector import build_model, load_checkpoint, load_detector, preset, save_checkpoint
from vitmalis.detector.config import PyramidConfig
from vitmalis.detector.detector import weights_files, weights_path
from vitmalis.detector.fcos import FcosDetector
from vitmalis.detector.mask_head import MaskHead
from vitmalis.errors import UserError
from vitmalis.paths import file_sha256
from vitmalis.types import Detections
from vitmalis.video.standin import SceneFrame, StreetScene
from vitmalis_jobs.common.config import checked, compose
from vitmalis_jobs.training.detection.augment import cut, cut_objects
from vitmalis_jobs.training.detection.config import Stage, StartOptions, WholeFrameOptions
from vitmalis_jobs.training.detection.labels import IGNORE, Targets
from vitmalis_jobs.training.detection.rendered_frames import RenderedFrame
from vitmalis_jobs.training.detection.state import TrainingState
from vitmalis_jobs.training.detection.stream import Source, TrainingStream
from vitmalis_jobs.training.detection.trainer import StepReport, train_with
from vitmalis_jobs.training.detection.views import View
from vitmalis_jobs.training.install import installations
from vitmalis_jobs.training.masks import frozen_detector, train_masks
from vitmalis_jobs.training.segmentation.config import MaskTrainingConfig
from vitmalis_jobs.training.segmentation.learner import MaskLearner, mean_iou
from vitmalis_jobs.training.segmentation.mask_scores import MaskFrame, matched, score_masks
from vitmalis_jobs.training.segmentation.mask_targets import MaskBatches, ViewObjects
from vitmalis_jobs.training.segmentation.monitor import with_mask_head


def owners_map() -> np.ndarray:
    """Object 3 is 28 px wide and high without its lower half on the right, object 7 too small to be learned."""
    owners = np.zeros((64, 96), np.uint8)
    owners[10:38, 20:48] = 3
    owners[24:38, 34:48] = 255
    owners[50:55, 60:65] = 7
    return owners


def test_objects_of_a_view_are_its_visible_pixels() -> None:
    owners = owners_map()
    owners[owners == 255] = 0
    objects = ViewObjects.of(owners)
    assert objects.numbers.tolist() == [3]
    assert objects.boxes.tolist() == [[20, 10, 48, 38]]
    expected = torch.ones(28, 28)
    expected[14:, 14:] = 0
    assert torch.equal(objects.masks()[0], expected)


def test_boxes_that_are_drawn_are_moved_and_stay_in_the_image() -> None:
    owners = np.zeros((64, 96), np.uint8)
    for number in range(1, 6):
        owners[:40, 15 * number : 15 * number + 12] = number
    objects = ViewObjects.of(owners)
    exact = objects.drawn(np.random.default_rng(0), 3, 0.0)
    assert len(exact.numbers) == 3
    assert torch.equal(exact.boxes, objects.boxes[exact.numbers.long() - 1])
    moved = objects.drawn(np.random.default_rng(0), 9, 0.1).boxes
    assert (moved != objects.boxes).any(1).all()
    assert (moved >= 0).all()
    assert (moved[:, 2] <= 96).all()


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("x", "y", "scale"), [(10.0, 5.0, 1.5), (-20.0, 0.0, 0.5)])
def test_a_map_of_objects_is_cut_as_its_image_is(x: float, y: float, scale: float, flip: bool) -> None:
    owners = np.where(owners_map() == 3, np.uint8(3), np.uint8(0))
    image = np.repeat((85 * owners)[..., None], 3, axis=2)
    view = View(x, y, scale, 96, 64, flip)
    ours, seen = cut_objects(owners, view) == 3, cut(image, view)[..., 0] > 127 + 1
    outside = cut(np.zeros_like(image), view)[..., 0] == 114
    assert ours.sum() > 100
    assert (ours != seen)[~outside].mean() < 0.03  # nearest pixels and interpolated ones differ along edges
    assert not ours[outside].any()


@pytest.fixture
def stream(tmp_path: Path) -> TrainingStream:
    """Two frames with an object each, and one that is ignored."""
    frames = []
    for index in range(2):
        owners = np.zeros((128, 160), np.uint8)
        owners[20:90, 30 + 20 * index : 70] = 4
        owners[20:60, 100:140] = 9
        path = tmp_path / f"{index}.jpg"
        cv2.imwrite(str(path), np.repeat((owners * 20)[..., None], 3, axis=2))
        cv2.imwrite(str(path.with_suffix(".png")), owners)
        targets = Targets.of([[30 + 20 * index, 20, 70, 90], [100, 20, 140, 60]], [0, IGNORE])
        frames.append(RenderedFrame(path, index, (160, 128), targets, (4, 9)))
    stages = (Stage(until=1.0, batch=2, sizes=((96, 64), (128, 96)), scales=(0.5, 1.0)),)
    whole = WholeFrameOptions(share=0.3, size=(96, 64), batch=2)
    return TrainingStream((Source("rendered", frames, 1.0),), stages, whole, batch_scale=1, seed=5)


def test_a_batch_has_the_learned_objects_of_its_views(stream: TrainingStream) -> None:
    batch = next(MaskBatches(stream).from_batch(0, lambda _: 0.0))
    assert len(batch.images) == len(batch.objects) == 2
    numbers = {number for objects in batch.objects for number in objects.numbers.tolist()}
    assert numbers == {4}  # 9 is ignored


def small_detector() -> FcosDetector:
    config = preset("vitdet_tiny").with_task("instances")
    vit = msgspec.structs.replace(config.vit, embed_dim=32, depth=4, num_heads=2, window=2, position_grid=(8, 10))
    torch.manual_seed(3)
    model = build_model(
        msgspec.structs.replace(config, vit=vit, pyramid=PyramidConfig(strides=(8, 16, 32), channels=32))
    )
    assert isinstance(model, FcosDetector)
    assert model.mask_head is not None
    model.eval().requires_grad_(False)
    model.mask_head.requires_grad_(True)
    return model


class Stop(Exception):
    pass


def test_a_run_resumed_equals_one_that_never_stopped_and_changes_the_mask_head_alone(
    stream: TrainingStream, tmp_path: Path
) -> None:
    overrides = ["train.hours=null", "train.steps=4", "train.mixed_share=0.5", "train.bf16=false"]
    options = checked(compose("train_masks", overrides), MaskTrainingConfig).train

    def run(stop_at: int | None) -> tuple[FcosDetector, TrainingState, list[float]]:
        detector, losses = small_detector(), list[float]()
        assert isinstance(detector.mask_head, MaskHead)
        state = TrainingState.fresh(detector.mask_head, 1e-2, 0.05)
        state.restore_from(tmp_path)

        def after_step(report: StepReport) -> None:
            losses.append(float(report.values["loss"]))
            if state.step == stop_at:
                state.save(tmp_path / "last.pt")
                raise Stop

        train_with(MaskLearner(detector, state, options).step, state, MaskBatches(stream), options, after_step)
        return detector, state, losses

    whole, state, uninterrupted = run(None)
    with pytest.raises(Stop):
        run(2)
    again, resumed, losses = run(None)
    assert losses == uninterrupted[2:]
    for ours, theirs in ((whole, again), (state.ema, resumed.ema)):
        assert all(map(torch.equal, ours.state_dict().values(), theirs.state_dict().values()))
    before = small_detector().state_dict()
    changed = {name for name, value in whole.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if name.startswith("mask_head.")}
    assert with_mask_head(whole, state.ema).mask_branch is state.ema
    assert whole.mask_branch is state.model


def test_the_frozen_detector_is_the_shipped_one() -> None:
    path = weights_path(preset("vitdet_tiny"), None)
    assert path is not None
    shipped, own = load_checkpoint(path)[0], frozen_detector("vitdet_tiny", StartOptions(weights=None, window=None))
    assert all(torch.equal(own.state_dict()[name], value) for name, value in shipped.items())
    assert {name for name, p in own.named_parameters() if p.requires_grad} == {
        name for name in own.state_dict() if name.startswith("mask_head.")
    }
    with pytest.raises(UserError, match="model=vitdet_b has no FCOS head"):
        frozen_detector("vitdet_b", StartOptions(weights=None, window=None))
    with pytest.raises(UserError, match=r"start\.weights=random: a mask head learns from a trained detector"):
        frozen_detector("vitdet_tiny", StartOptions(weights="random", window=None))


@pytest.mark.slow
def test_the_job_continues_and_exports_what_can_be_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITMALIS_CACHE", str(tmp_path / "cache"))
    options = [
        *("rendered.profiles=[walkS]", "rendered.scenes=1", "rendered.frames_per_scene=1"),
        *("held_out.frames_per_profile=1", "train.hours=null", "train.workers=0", "train.device=cpu"),
        *(f"train.folder={tmp_path}", f"mlflow.tracking_uri=sqlite:///{tmp_path}/mlflow.db"),
        f"mlflow.artifact_dir={tmp_path}/artifacts",
    ]
    for steps in (1, 2):
        train_masks(checked(compose("train_masks", [*options, f"train.steps={steps}"]), MaskTrainingConfig))
    other = tmp_path / "other.pt"
    save_checkpoint(build_model(preset("vitdet_tiny")), other, {})
    changed = checked(compose("train_masks", [*options, "train.steps=3", f"start.weights={other}"]), MaskTrainingConfig)
    with pytest.raises(UserError, match=r"start\.weights=.*other\.pt \(sha256 .*began with start\.weights=null \(sha"):
        train_masks(changed)
    assert {path.name for path in tmp_path.glob("config_from_*")} == {f"config_from_000000{i}.yaml" for i in (0, 1)}
    metadata = load_checkpoint(tmp_path / "mask_head.pt")[1]
    detector, _ = weights_files(preset("vitdet_tiny").with_task("instances"), None)
    assert metadata["detector_sha256"] == file_sha256(detector)
    assert [target.name for _, target in installations(tmp_path / "mask_head.pt")] == ["vitdet_tiny_masks.pt"]
    assert load_detector("vitdet_tiny", weights=tmp_path / "best.pt", task="instances").model.mask_branch is not None


def test_iou_of_masks_in_their_boxes() -> None:
    wanted = torch.zeros(2, 28, 28, dtype=torch.bool)
    wanted[:, :14] = True
    predicted = wanted.clone()
    predicted[1] = True
    assert float(mean_iou(predicted, wanted)) == pytest.approx((1 + 0.5) / 2)
    assert float(mean_iou(predicted[:0], wanted[:0])) == 0


def test_detections_are_matched_best_first_within_their_class() -> None:
    objects = Detections.of([[0, 0, 10, 10], [20, 0, 30, 10]], [1, 1], [0, 0])
    found = Detections.of(
        [[0, 0, 10, 9], [0, 0, 10, 10], [20, 0, 30, 10], [21, 0, 31, 10], [20, 6, 30, 10]],
        [0.9, 0.8, 0.7, 0.6, 0.5],
        [0, 0, 2, 0, 0],
    )
    rows, of = matched(found, objects)
    assert (rows.tolist(), of.tolist()) == ([0, 3], [0, 1])


@pytest.fixture
def frame() -> MaskFrame:
    owners = owners_map()
    boxes = Detections.of([[20, 10, 48, 38], [60, 50, 65, 55]], [1, 1], [0, 0])
    image = np.full((64, 96, 3), 90, np.uint8)
    return MaskFrame.of(SceneFrame(image, boxes, np.ones(2, np.float32), owners, np.array([3, 7], np.uint8)))


def test_masks_are_scored_by_the_visible_pixels(frame: MaskFrame) -> None:
    assert frame.numbers.tolist() == [3]  # the other one is too small
    detector = small_detector()
    assert detector.mask_head is not None
    with torch.no_grad():
        for parameter in detector.mask_head.predictor.parameters():
            parameter.fill_(0)
        detector.mask_head.predictor.bias.fill_(9.0)  # masks that fill their boxes
    scores = score_masks(detector, [frame, replace(frame)])
    assert (scores.objects, scores.detected) == (2, 0)
    assert scores.true_boxes == scores.filled_true_boxes == pytest.approx(0.75)
    assert scores.detected_boxes == 0


def test_the_shipped_mask_head_finds_what_is_visible_and_leaves_the_boxes_as_they_are() -> None:
    scene = StreetScene("walkS", 1).render_full(30)
    boxes, instances = (load_detector("vitdet_tiny", device="cpu", task=task) for task in ("boxes", "instances"))
    found, expected = (detector.detect(scene.image) for detector in (instances, boxes))
    np.testing.assert_array_equal(found.boxes_xyxy, expected.boxes_xyxy)
    np.testing.assert_array_equal(found.scores, expected.scores)
    assert isinstance(instances.model, FcosDetector)
    scores = score_masks(instances.model, [MaskFrame.of(scene)])
    assert scores.objects > 10
    assert scores.true_boxes > scores.filled_true_boxes + 0.04
    assert scores.detected_boxes > scores.filled_detected_boxes + 0.04
    (_, file) = weights_files(instances.config, None)
    assert file.stat().st_size < 300_000
