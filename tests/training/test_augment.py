"""Views and distortions: boxes stay with their pixels, and a GPU's augmentation gives the images of the CPU's."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitmalis.types import RgbImage
from vitmalis_jobs.training.detection import device_augment
from vitmalis_jobs.training.detection.augment import PAD_VALUE, cut, distort
from vitmalis_jobs.training.detection.device_augment import Distortions, Views
from vitmalis_jobs.training.detection.distortion import Distortion, random_distortion
from vitmalis_jobs.training.detection.labels import IGNORE, Targets
from vitmalis_jobs.training.detection.views import View, random_view, targets_in, whole_frame_view


def scene(box: tuple[int, int, int, int], size: tuple[int, int] = (320, 200)) -> np.ndarray:
    """A black image with one white box."""
    image = np.zeros((size[1], size[0], 3), np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = 255
    return image


def white_box(image: np.ndarray) -> list[int]:
    rows, columns = np.nonzero(image[..., 0] > 127)
    return [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]


def test_a_crop_by_hand() -> None:
    box = (100, 60, 140, 120)
    view = View(80, 40, 1.0, 96, 96, False)
    image, targets = cut(scene(box), view), targets_in(view, Targets.of([box], [0]))
    assert targets.boxes_xyxy.tolist() == [[20, 20, 60, 80]]
    assert white_box(image) == [20, 20, 60, 80]


def test_a_mirrored_and_doubled_crop_by_hand() -> None:
    box = (100, 60, 120, 80)
    view = View(90, 50, 2.0, 128, 96, True)
    image, targets = cut(scene(box), view), targets_in(view, Targets.of([box], [0]))
    # Doubled the box is 20..60 by 20..60; mirrored in 128 columns it is 68..108.
    assert targets.boxes_xyxy.tolist() == [[68, 20, 108, 60]]
    assert white_box(image) == [68, 20, 108, 60]


def test_cut_small_and_lost_boxes() -> None:
    cut_to_a_quarter = (60, 40, 100, 80)  # the view starts at x = 90
    small = (150, 60, 157, 67)
    outside = (10, 10, 40, 40)
    half = (70, 100, 110, 140)
    targets = Targets.of([cut_to_a_quarter, small, outside, half], [0, 2, 2, 5])
    moved = targets_in(View(90, 20, 1.0, 128, 128, False), targets)
    assert moved.labels.tolist() == [IGNORE, IGNORE, 5]
    assert moved.boxes_xyxy.tolist() == [[0, 20, 10, 60], [60, 40, 67, 47], [0, 80, 20, 120]]


def test_beyond_the_frame_is_padding() -> None:
    image = cut(np.zeros((100, 100, 3), np.uint8), View(0, 0, 1.0, 128, 160, False))
    assert (image[:100, :100] == 0).all()
    assert (image[100:] == PAD_VALUE).all()
    assert (image[:, 100:] == PAD_VALUE).all()


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    corner=st.tuples(st.integers(0, 240), st.integers(0, 120)),
    sides=st.tuples(st.integers(30, 80), st.integers(30, 80)),
)
def test_boxes_stay_with_their_pixels(seed: int, corner: tuple[int, int], sides: tuple[int, int]) -> None:
    box = (*corner, corner[0] + sides[0], corner[1] + sides[1])
    truth = Targets.of([box], [0])
    view = random_view(np.random.default_rng(seed), (320, 200), truth, (192, 128), (0.6, 1.6))
    image, moved = cut(scene(box), view), targets_in(view, truth)
    visible = moved.select(moved.labels == 0)
    if len(visible):
        assert white_box(np.where(image == PAD_VALUE, 0, image)) == pytest.approx(visible.boxes_xyxy[0], abs=2)


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), frame=st.sampled_from([(320, 180), (240, 180), (100, 180)]))
def test_a_whole_frame_lies_in_its_view(seed: int, frame: tuple[int, int]) -> None:
    view = whole_frame_view(np.random.default_rng(seed), frame, (160, 96))
    corners = targets_in(view, Targets.of([(0, 0, *frame)], [0])).boxes_xyxy[0]
    width, height = corners[2] - corners[0], corners[3] - corners[1]
    fitting = min(160 / frame[0], 96 / frame[1])
    assert (width, height) == (
        pytest.approx(view.scale * frame[0], abs=0.01),
        pytest.approx(view.scale * frame[1], abs=0.01),
    )
    assert 0.8 * fitting - 1e-6 <= view.scale <= fitting + 1e-6


def test_no_distortion_changes_nothing_and_any_moves_nothing() -> None:
    image = scene((100, 60, 140, 120))
    assert (distort(image, Distortion()) == image).all()
    for seed in range(20):
        once, again = (distort(image, random_distortion(np.random.default_rng(seed))) for _ in range(2))
        assert once.dtype == np.uint8
        assert once.shape == image.shape
        assert (once == again).all()
        inside, outside = once[65:115, 105:135].mean(), once[:40, :80].mean()
        assert inside > outside + 20


def test_distortions_by_hand() -> None:
    image = np.full((16, 16, 3), (40, 100, 200), np.uint8)
    assert distort(image, Distortion(gain=0.5))[0, 0].tolist() == [20, 50, 100]
    assert distort(image, Distortion(cast=(1, 1, 0.5)))[0, 0].tolist() == [40, 100, 100]
    assert distort(image, Distortion(saturation=0))[0, 0].tolist() == [113, 113, 113]
    assert distort(image, Distortion(gamma=2, dimming=0.5))[0, 0].tolist() == [3, 20, 78]  # 255 / 2 * (v / 255) ** 2
    assert distort(image, Distortion(contrast=1.5))[0, 0].tolist() == [3, 93, 243]  # around the mean, 113.3


def street(size: tuple[int, int]) -> RgbImage:
    """A frame with what streets have: smooth areas, sharp edges and fine texture."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[: size[1], : size[0]]
    image = np.stack([60 + x / 8, 200 - y / 3, 90 + 40 * np.sin(x / 30) * np.cos(y / 20)], axis=2)
    for _ in range(40):
        left, top = rng.integers(0, size[0] - 20), rng.integers(0, size[1] - 20)
        image[top : top + rng.integers(5, 60), left : left + rng.integers(5, 60)] = rng.integers(0, 256, 3)
    image[:, : size[0] // 3] += rng.normal(0, 12, (size[1], size[0] // 3, 1))
    return image.clip(0, 255).astype(np.uint8)


def stacked(images: list[RgbImage]) -> torch.Tensor:
    """Images of any size as uint8 (B, 3, H, W), each in the upper left corner."""
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    frames = torch.zeros(len(images), 3, height, width, dtype=torch.uint8)
    for frame, image in zip(frames, images, strict=True):
        frame[:, : image.shape[0], : image.shape[1]] = torch.from_numpy(image).permute(2, 0, 1)
    return frames


def differences(ours: torch.Tensor, expected: list[RgbImage]) -> np.ndarray:
    """Absolute differences, in grey levels, of whole numbers 0..255."""
    assert ((ours >= 0) & (ours <= 255) & (ours == ours.round())).all()
    return (ours - stacked(expected).float()).abs().numpy()


def test_a_device_cuts_the_views_that_the_cpu_cuts() -> None:
    """Within 0.25 grey levels in the mean, 2 in 99 of 100 pixels and 10 anywhere, padding included."""
    frames = [street((320, 180)), street((240, 180))] * 20
    views = []
    for seed, frame in enumerate(frames):
        rng, size = np.random.default_rng(seed), (frame.shape[1], frame.shape[0])
        whole = seed % 4 == 0
        views.append(
            whole_frame_view(rng, size, (128, 96))
            if whole
            else random_view(rng, size, Targets.of([], []), (128, 96), (0.4, 2))
        )
    sizes = torch.tensor([[frame.shape[1], frame.shape[0]] for frame in frames])
    ours = device_augment.cut(stacked(frames), sizes, Views.packed(views), (128, 96))
    off = differences(ours, [cut(frame, view) for frame, view in zip(frames, views, strict=True)])
    assert off.mean(axis=(1, 2, 3)).max() < 0.25
    assert np.percentile(off, 99) <= 2
    assert off.max() <= 10


@pytest.mark.parametrize("quality", [20, 60, 75, 90, 100])
def test_a_device_codes_jpegs_as_the_codec_does(quality: int) -> None:
    """Within half a grey level in the mean, and a quarter of what the coding itself changes unless that is little."""
    image = street((320, 192))
    expected = distort(image, Distortion(jpeg_quality=quality))
    ours = device_augment.distort(stacked([image]).float(), Distortions.packed([Distortion(jpeg_quality=quality)]))
    off = differences(ours, [expected])
    coding = np.abs(expected.astype(float) - image).mean()
    assert off.mean() < (0.5 if quality > 95 else min(0.5, coding / 4))
    assert np.percentile(off, 99) <= 5


def test_a_device_distorts_as_the_cpu_does() -> None:
    """Without noise and JPEG: within one grey level, but for a few blurred pixels."""
    image = street((320, 192))
    distortions = [random_distortion(np.random.default_rng(seed)) for seed in range(40)]
    plain = [dataclasses.replace(each, noise=0.0, jpeg_quality=0) for each in distortions]
    assert min(sum(each.blur_px > 0 for each in plain), sum(each.saturation == 0 for each in plain)) > 0
    ours = device_augment.distort(stacked([image] * 40).float(), Distortions.packed(plain))
    off = differences(ours, [distort(image, each) for each in plain])
    assert off.mean() < 0.02
    assert np.percentile(off, 99.9) <= 1


def test_noise_has_its_standard_deviation_and_is_a_function_of_its_seed() -> None:
    image = np.full((160, 160, 3), 128, np.uint8)
    noisy = [Distortion(noise=0.02, noise_seed=1), Distortion(noise=0.02, noise_seed=2), Distortion()]
    once, again = (device_augment.distort(stacked([image] * 3).float(), Distortions.packed(noisy)) for _ in range(2))
    assert torch.equal(once, again)
    assert not torch.equal(once[0], once[1])
    for noise in (once[0].numpy() - 128, once[1].numpy() - 128, distort(image, noisy[0]).astype(float) - 128):
        assert noise.std() == pytest.approx(0.02 * 255, rel=0.03)
    assert (once[2] == 128).all()
