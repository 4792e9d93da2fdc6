"""Street frames: tables of a folder, frames of any size, and the split by scene."""

from __future__ import annotations

import functools
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from vitmalis.errors import UserError
from vitmalis_jobs.common.config import checked, compose
from vitmalis_jobs.training.detection.batches import CpuBatches
from vitmalis_jobs.training.detection.config import DetectorTrainingConfig, StreetOptions
from vitmalis_jobs.training.detection.labels import IGNORE
from vitmalis_jobs.training.detection.street_frames import is_validated, read_street, scene_of
from vitmalis_jobs.training.detection.training_data import FRAME_SIZE, training_stream, validation_sets

HEADER = "file,x1,y1,x2,y2,score,class"
SIZES = {"corner.jpg": (320, 270), "walk_00000.jpg": (1920, 1080), "walk_00030.jpg": (1920, 1080)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small image with a car, and two frames of a large video."""
    folder = tmp_path / "street"
    folder.mkdir()
    for name, (width, height) in SIZES.items():
        image = np.full((height, width, 3), 60, np.uint8)
        image[height // 2 :] = 180
        assert cv2.imwrite(str(folder / name), image)
    write(folder, "labels.csv", HEADER, "corner.jpg,10,20,110,70,1.0,car", "walk_00030.jpg,-1,8,100,400,0.4,person")
    write(folder, "sources.csv", "prefix,licence", "corner,MIT", "walk,MIT")
    return folder


def write(folder: Path, name: str, *lines: str) -> None:
    (folder / name).write_text("\n".join(lines) + "\n")


def composed(folder: Path, *overrides: str) -> DetectorTrainingConfig:
    return checked(compose("train_detector", [f"street.folder={folder}", *overrides]), DetectorTrainingConfig)


@functools.cache
def shipped() -> DetectorTrainingConfig:
    """The shipped configuration, composed once."""
    return checked(compose("train_detector", []), DetectorTrainingConfig)


def options(folder: Path, **changes: float) -> StreetOptions:
    return msgspec.structs.replace(shipped().street, folder=str(folder), **changes)


def test_frames_of_any_size_fit_the_frame_and_their_boxes_move_along(folder: Path) -> None:
    street = read_street(options(folder, validation_share=0), FRAME_SIZE)
    assert street.validation == []
    corner, empty, walk = street.train
    assert [frame.scene for frame in street.train] == ["corner", "walk", "walk"]
    assert [frame.image().shape for frame in street.train] == [(540, 640, 3), (540, 960, 3), (540, 960, 3)]
    # 320x270 is doubled, 1920x1080 halved; what reaches beyond the image is clipped.
    assert corner.targets.boxes_xyxy.tolist() == [[20, 40, 220, 140]]
    assert walk.targets.boxes_xyxy.tolist() == [[0, 4, 50, 200]]
    assert [frame.targets.labels.tolist() for frame in (corner, empty, walk)] == [[2], [], [0]]
    assert abs(int(corner.image()[500, 300, 0]) - 180) < 4


def test_unsure_boxes_and_motorcycles_are_ignored(folder: Path) -> None:
    write(
        folder, "labels.csv", HEADER, "corner.jpg,10,20,110,70,0.4,traffic light", "corner.jpg,0,0,40,40,0.39,bus",
        "corner.jpg,200,0,240,40,0.24,bus",
    )  # fmt: skip
    write(folder, "motorcycles_ignore.csv", HEADER.removesuffix(",class"), "corner.jpg,100,100,200,200,1.0")
    corner = read_street(options(folder, validation_share=0), FRAME_SIZE).train[0]
    ignored = corner.targets.boxes_xyxy[corner.targets.labels == IGNORE].tolist()
    assert corner.targets.objects().labels.tolist() == [9]
    assert sorted(ignored) == [[0, 0, 80, 80], [200, 200, 400, 400]]


@pytest.mark.parametrize(
    ("file", "scene"),
    [
        ("walk_00030.jpg", "walk"),
        ("coco_000000000049.jpg", "coco_000000000049"),
        ("jam_03601a_00017.jpg", "jam_03601"),
        ("jam_03601b_00000.jpg", "jam_03601"),
        ("walk_00030_2.jpg", None),
        ("other_00030.jpg", None),
    ],
)
def test_the_scene_of_a_file_is_its_source_or_what_several_sources_show(file: str, scene: str | None) -> None:
    prefixes = {"walk", "coco_000000000049", "jam_03601a", "jam_03601b"}
    assert scene_of(file, prefixes, ["jam_03601"]) == scene


def test_no_scene_is_in_both_parts(folder: Path) -> None:
    prefixes = [f"place{i}" for i in range(60)] + ["jam_03601a", "jam_03601b"]
    image = (folder / "corner.jpg").read_bytes()
    for i, prefix in enumerate(prefixes):
        for number in range(1 + i % 3):
            (folder / f"{prefix}_{number:05d}.jpg").write_bytes(image)
    write(folder, "sources.csv", "prefix", "corner", "walk", *prefixes)
    street = read_street(options(folder, validation_share=0.3), FRAME_SIZE)
    trained, validated = ({frame.scene for frame in part} for part in (street.train, street.validation))
    assert trained.isdisjoint(validated)
    assert len(trained | validated) == 63
    assert 9 <= len(validated) <= 28  # 19 expected


def test_a_larger_share_keeps_the_validation_scenes_and_another_seed_draws_others(tmp_path: Path) -> None:
    def validated(**changes: float) -> set[str]:
        config = options(tmp_path, **changes)
        return {scene for scene in map(str, range(60)) if is_validated(scene, config)}

    assert validated(validation_share=0.3) < validated(validation_share=0.6)
    assert validated(validation_share=0.3) != validated(validation_share=0.3, split_seed=9)


def test_the_parts_are_a_source_of_training_and_a_validation_set(folder: Path) -> None:
    config = composed(folder, "street.validation_share=1", "held_out.frames_per_street_scene=1", "rendered.share=0")
    validated = read_street(config.street, FRAME_SIZE)
    (street_set,) = validation_sets(config, [], validated)
    assert street_set.name == "street"
    assert [len(targets) for _, targets in street_set.load()] == [1, 0]  # the corner, and the first frame of the walk

    config = composed(folder, "street.validation_share=0", "street.share=1", "rendered.share=0")
    stream = training_stream(config, [], read_street(config.street, FRAME_SIZE), [])
    batch = next(CpuBatches(stream, 0).from_batch(0, lambda _: 0.0))
    assert [source.name for source in stream.sources] == ["street"]
    assert batch.images.shape[:2] == (stream.plan(0, 0).samples, 3)


def test_an_absent_folder_is_left_out_and_one_line_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = composed(tmp_path / "none", "rendered.share=1", "street.share=0")
    assert read_street(config.street, FRAME_SIZE).train == []
    assert caplog.messages == []
    street = read_street(composed(tmp_path / "none").street, FRAME_SIZE)
    (line,) = caplog.messages
    assert f"'{tmp_path / 'none'}' is no folder" in line
    assert "street.share=0" in line
    assert [s.name for s in validation_sets(composed(tmp_path / "none", "rendered.share=0"), [], street)] == []
    with pytest.raises(UserError, match=r"rendered\.share=0\.35 leaves samples for real frames, and there are none"):
        training_stream(composed(tmp_path / "none"), [], street, [])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("corner.jpg,10,20,x,70,1,car", "x2 is 'x', expected a number from -2 to 322"),
        ("corner.jpg,10,20,nan,70,1,car", "x2 is 'nan', expected a number"),
        ("corner.jpg,10,20,110,900,1,car", "y2 is '900', expected a number from -2 to 272"),
        ("corner.jpg,10,20,10,70,1,car", "x2 is '10', expected more than 10"),
        ("corner.jpg,10,20,110,70,1.5,car", "score is '1.5', expected a number from 0 to 1"),
        ("corner.jpg,10,20,110,70,1,carriage", "class is 'carriage', expected the name of a COCO class"),
        ("../corner.jpg,10,20,110,70,1,car", r"file is '\.\./corner\.jpg', expected the name of a \.jpg next to"),
        ("corner.jpg,10,20,110,70,1", "6 values, expected 7"),
        ("corner.jpg,10,20,110,70,1," + "c" * 200_000, "cannot be read after row 2"),
    ],
)
def test_a_damaged_table_is_named_with_row_and_value(folder: Path, row: str, message: str) -> None:
    write(folder, "labels.csv", HEADER, "corner.jpg,10,20,110,70,1,car", row)
    with pytest.raises(UserError, match=message) as caught:
        read_street(options(folder), FRAME_SIZE)
    assert str(caught.value).startswith(f"street table '{folder / 'labels.csv'}': ")
    assert ("row 3" in str(caught.value)) or ("row 2 (" in str(caught.value))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("labels.csv", None, r"labels\.csv' is missing"),
        ("labels.csv", b"", r"there is no column 'file'; expected file,x1,"),
        ("labels.csv", b"file,x1,y1,x2,y2,score,class\n\xff\xfe", "cannot be read after row 1"),
        ("sources.csv", b"name\ncorner\n", r"sources\.csv': there is no column 'prefix'"),
        ("sources.csv", b"prefix\ncorner\n", r"'walk_00000\.jpg' has no source"),
        (
            "motorcycles_ignore.csv",
            b"file,x1,y1,x2,y2,score\nno.jpg,1,1,2,2,1\n",
            r"ignore\.csv': row 2: file is 'no\.jpg'",
        ),
        ("corner.jpg", b"no image", r"corner\.jpg' cannot be read \(not a JPEG\)"),
    ],
)
def test_a_damaged_folder_is_one_line(folder: Path, file: str, content: bytes | None, message: str) -> None:
    (folder / file).unlink(missing_ok=True)
    if content is not None:
        (folder / file).write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_street(options(folder), FRAME_SIZE)
    assert "\n" not in str(caught.value)


def test_a_table_of_any_length_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitmalis_jobs.training.detection.csv_rows.MAX_BYTES", 80)
    with pytest.raises(UserError, match=r"labels\.csv': \d+ bytes are more than the 80 that are read"):
        read_street(options(folder), FRAME_SIZE)


def test_a_frame_that_goes_away_is_named(folder: Path) -> None:
    corner = read_street(options(folder, validation_share=0), FRAME_SIZE).train[0]
    corner.path.write_bytes(corner.path.read_bytes()[:200])
    with pytest.raises(UserError, match=r"corner\.jpg' cannot be read \(truncated JPEG"):
        corner.image()


def test_places_that_several_sources_show_are_one_scene_in_the_shipped_configuration() -> None:
    names = {"oca_road", "oca_road2", "tlreal_left0000", "tlreal_left0681", "oca_street"}
    scenes = {scene_of(f"{name}.jpg", names, shipped().street.one_scene) for name in names}
    assert scenes == {"oca_road", "tlreal_", "oca_street"}


def test_the_development_frames_are_read(shared: Path) -> None:
    folder = shared / "data" / "street"
    if not folder.is_dir():
        pytest.skip("the street frames are not on this machine")
    street = read_street(options(folder), FRAME_SIZE)
    assert len(street.train) + len(street.validation) == 783
    trained, validated = ({frame.scene for frame in part} for part in (street.train, street.validation))
    assert trained.isdisjoint(validated)
    assert (len(trained), len(validated)) == (244, 46)
    labels = np.concatenate([frame.targets.labels for frame in street.validation])
    assert set(labels.tolist()) == {IGNORE, 0, 1, 2, 5, 9}
    assert all(frame.size[0] == 960 or frame.size[1] == 540 for frame in street.train)


def test_a_folder_that_nothing_trains_on_is_a_validation_set(folder: Path, tmp_path: Path) -> None:
    (folder / "sources.csv").unlink()
    config = composed(
        tmp_path / "none", f"held_out.folders=[{folder}]", "street.share=0", "rendered.share=0", "~clips.weights",
        "+clips.weights={}",
    )  # fmt: skip
    (held_out,) = validation_sets(config, [], read_street(config.street, FRAME_SIZE))
    assert held_out.name == "folder_street"
    assert [targets.labels.tolist() for _, targets in held_out.load()] == [[2], [], [0]]


def test_a_held_out_folder_that_is_not_there_or_named_twice(folder: Path, tmp_path: Path) -> None:
    config = composed(folder, f"held_out.folders=[{tmp_path / 'none'}]")
    with pytest.raises(UserError, match=r"held_out\.folders: there is no folder '.*none'"):
        validation_sets(config, [], read_street(config.street, FRAME_SIZE))
    with pytest.raises(UserError, match=r"held_out\.folders: two folders have one name \(street, street\)"):
        composed(folder, "held_out.folders=[a/street,b/street]")
