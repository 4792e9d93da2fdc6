"""The rendered street: frames are reproducible, boxes lie around the objects, geometry is checked by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from joblib import Parallel, delayed

from vitmalis.errors import UserError
from vitmalis.fingerprint import imported_modules
from vitmalis.types import COCO_CLASSES
from vitmalis.video.standin import PROFILES, StreetScene, clip
from vitmalis.video.standin.clip import render_clip
from vitmalis.video.standin.view import View, clip_near

SIZE = (480, 270)


@pytest.mark.parametrize("profile", PROFILES)
def test_a_frame_depends_on_nothing_but_its_index(profile: str) -> None:
    one, other = (StreetScene(profile, 3, *SIZE) for _ in range(2))
    one.render(900)  # a frame rendered before must not matter
    image, boxes = one.render(40)
    again, same_boxes = other.render(40)
    assert image.shape == (270, 480, 3)
    assert np.array_equal(image, again)
    assert np.array_equal(boxes.boxes_xyxy, same_boxes.boxes_xyxy)


@pytest.mark.parametrize("profile", PROFILES)
def test_the_street_stays_populated_and_boxes_stay_inside(profile: str) -> None:
    scene = StreetScene(profile, 5, *SIZE)
    counts, labels = [], set()
    for frame in (0, 4500, 8999):
        seen = scene.render_full(frame)
        counts.append(len(seen.boxes))
        labels |= set(seen.boxes.labels.tolist())
        low, high = seen.boxes.boxes_xyxy[:, :2], seen.boxes.boxes_xyxy[:, 2:]
        assert (low >= 0).all()
        assert (high <= SIZE).all()
        assert (high - low >= (1, 8)).all()
        assert seen.visible.shape == (len(seen.boxes),)
        assert (seen.visible >= 0.25).all()
        assert (seen.visible <= 1).all()
    assert min(counts) >= 2
    known = {COCO_CLASSES.index(name) for name in ("person", "bicycle", "car", "bus", "truck", "traffic light")}
    assert labels <= known


def test_seeds_are_different_streets() -> None:
    first, second = (StreetScene("walkS", seed, *SIZE).render(0)[0].astype(float) for seed in (1, 2))
    assert np.abs(first - second).mean() > 10


def test_motion_does_not_depend_on_the_frame_rate() -> None:
    slow, fast = StreetScene("cycleS", 4, *SIZE, fps=15), StreetScene("cycleS", 4, *SIZE, fps=30)
    assert np.array_equal(slow.render(30)[1].boxes_xyxy, fast.render(60)[1].boxes_xyxy)


def test_boxes_move_little_from_frame_to_frame() -> None:
    scene = StreetScene("walkB", 6, *SIZE)
    (_, before), (_, after) = scene.render(100), scene.render(101)
    big = before.select((before.boxes_xyxy[:, 3] - before.boxes_xyxy[:, 1]) > 60)
    assert len(big) > 0
    for box in big.boxes_xyxy:
        assert np.abs(after.boxes_xyxy - box).max(axis=1).min() < 12


def test_the_camera_goes_forward_at_about_the_profile_s_speed() -> None:
    world = StreetScene("driveN", 8, *SIZE).world
    travelled = np.diff([world.camera_z(t) for t in np.arange(0, 300, 0.5)])
    assert (travelled > 0).all()
    assert travelled.sum() / 299.5 == pytest.approx(world.speed_m_s, rel=0.02)


def test_projection_by_hand() -> None:
    view = View.looking(np.array([0.0, 1.5, 10.0]), 0.0, 0.0, 0.0, 400.0, (480, 270))
    camera = view.to_camera(np.array([1.0, 0.0, 14.0]))  # 4 m ahead, 1 m right, on the ground
    assert camera == pytest.approx([1.0, 1.5, 4.0])
    assert view.to_pixels(camera) == pytest.approx([240 + 100, 135 + 150])
    assert view.horizon_y() == pytest.approx(135)
    raised = View.looking(np.zeros(3), 0.0, 0.1, 0.0, 400.0, (480, 270))
    assert raised.horizon_y() == pytest.approx(135 + 400 * np.tan(0.1))  # looking up, the horizon sinks


def test_near_plane_cuts_a_triangle_into_a_quadrilateral() -> None:
    triangle = np.array([[0, 0, 1.0], [1, 0, 1.0], [0, 0, -1.0]], np.float32)
    cut = clip_near(triangle, near_m=0.5)
    assert len(cut) == 4
    assert cut[:, 2].min() == pytest.approx(0.5)
    assert len(clip_near(triangle - [0, 0, 5], near_m=0.5)) == 0


def test_unknown_profile_lists_the_known() -> None:
    with pytest.raises(UserError, match=r"'flyS' is unknown; known: walkS, walkR"):
        StreetScene("flyS", 1)


def test_a_clip_is_rendered_in_a_worker_of_joblibs_launcher(tmp_path: Path) -> None:
    """Child processes of such a worker cannot start, so a pool in it would start new ones for ever."""
    asked = ("walkS", "eval", 30.0, 2)
    here = render_clip(*asked, tmp_path / "here", lambda *_: None)
    (there,) = Parallel(n_jobs=2, timeout=120)([delayed(render_clip)(*asked, tmp_path / "there", print)])
    assert there.read_bytes() == here.read_bytes()


def test_the_name_of_a_rendered_clip_depends_on_all_code_of_the_renderer() -> None:
    used = imported_modules(clip.__name__)
    names = ("atmosphere", "furniture", "mesh", "people", "profiles", "scene", "textures", "vehicles", "view", "world")
    assert {f"vitmalis.video.standin.{name}" for name in names} | {"vitmalis.video.encode"} <= set(used)
    assert clip.renderer_fingerprint() == clip.renderer_fingerprint()
