import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitmalis_jobs.training.detection.augment import PAD_VALUE, View, apply_view, photometric, random_view
from vitmalis_jobs.training.detection.labels import IGNORE, Targets


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
    image, targets = apply_view(scene(box), Targets.of([box], [0]), View(80, 40, 1.0, 96, 96, False))
    assert targets.boxes_xyxy.tolist() == [[20, 20, 60, 80]]
    assert white_box(image) == [20, 20, 60, 80]


def test_a_mirrored_and_doubled_crop_by_hand() -> None:
    box = (100, 60, 120, 80)
    image, targets = apply_view(scene(box), Targets.of([box], [0]), View(90, 50, 2.0, 128, 96, True))
    # Doubled the box is 20..60 by 20..60; mirrored in 128 columns it is 68..108.
    assert targets.boxes_xyxy.tolist() == [[68, 20, 108, 60]]
    assert white_box(image) == [68, 20, 108, 60]


def test_cut_small_and_lost_boxes() -> None:
    cut_to_a_quarter = (60, 40, 100, 80)  # the view starts at x = 90
    small = (150, 60, 161, 71)
    outside = (10, 10, 40, 40)
    half = (70, 100, 110, 140)
    targets = Targets.of([cut_to_a_quarter, small, outside, half], [0, 2, 2, 5])
    _, moved = apply_view(np.zeros((200, 320, 3), np.uint8), targets, View(90, 20, 1.0, 128, 128, False))
    assert moved.labels.tolist() == [IGNORE, IGNORE, 5]
    assert moved.boxes_xyxy.tolist() == [[0, 20, 10, 60], [60, 40, 71, 51], [0, 80, 20, 120]]


def test_beyond_the_frame_is_padding() -> None:
    image, _ = apply_view(np.zeros((100, 100, 3), np.uint8), Targets.of([], []), View(0, 0, 1.0, 128, 160, False))
    assert (image[:100, :100] == 0).all()
    assert (image[100:] == PAD_VALUE).all()
    assert (image[:, 100:] == PAD_VALUE).all()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    corner=st.tuples(st.integers(0, 240), st.integers(0, 120)),
    sides=st.tuples(st.integers(30, 80), st.integers(30, 80)),
)
def test_boxes_stay_with_their_pixels(seed: int, corner: tuple[int, int], sides: tuple[int, int]) -> None:
    box = (*corner, corner[0] + sides[0], corner[1] + sides[1])
    truth = Targets.of([box], [0])
    view = random_view(np.random.default_rng(seed), (320, 200), truth, (192, 128), (0.6, 1.6))
    image, moved = apply_view(scene(box), truth, view)
    visible = moved.select(moved.labels == 0)
    if len(visible):
        assert white_box(np.where(image == PAD_VALUE, 0, image)) == pytest.approx(visible.boxes_xyxy[0], abs=2)


def test_photometric_is_a_function_of_its_seed_and_moves_nothing() -> None:
    image = scene((100, 60, 140, 120))
    for seed in range(20):
        once, again = (photometric(np.random.default_rng(seed), image) for _ in range(2))
        assert once.dtype == np.uint8
        assert once.shape == image.shape
        assert (once == again).all()
        inside, outside = once[65:115, 105:135].mean(), once[:40, :80].mean()
        assert inside > outside + 20
