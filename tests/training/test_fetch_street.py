"""Street frames from published files: the table of sources, downloads from a local server, and frames by hand."""

from __future__ import annotations

import csv
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from vitmalis import repository_files
from vitmalis.paths import file_sha256
from vitmalis.repository_files import RepositoryFile
from vitmalis.video.encode import write_clip
from vitmalis_jobs.common.config import checked, compose
from vitmalis_jobs.training import fetch_street
from vitmalis_jobs.training.detection.config import DetectorTrainingConfig
from vitmalis_jobs.training.detection.street_frames import read_street
from vitmalis_jobs.training.street.frames import shrunk
from vitmalis_jobs.training.street.sources import StreetSource, street_sources

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_the_table_names_each_frame_once_with_its_origin_and_licence() -> None:
    sources = street_sources()
    names = [source.frame_name(number) for source in sources for number in (source.numbers or (None,))]
    assert len(names) == len(set(names)) == 783
    assert len({source.prefix for source in sources}) == 319
    for source in sources:
        assert (len(source.file.commit), len(source.file.sha256)) == (40, 64)
        assert source.licence
        assert source.licence_flag.partition(":")[0] in ("ok", "check")
        assert list(source.numbers) == sorted(set(source.numbers))
    repositories = {source.file.repository for source in sources}
    assert len({name.partition("/")[2] for name in repositories}) == len(repositories)  # folders of a mirror


def grey(width: int, height: int, value: int) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[StreetSource]:
    """A photo, a drawing, a video, an animation and a numbered image in a mirror, and the table that names them."""
    folder = tmp_path / "mirror" / "streets"
    folder.mkdir(parents=True)
    cv2.imwrite(str(folder / "photo.jpg"), grey(1920, 1080, 90))
    cv2.imwrite(str(folder / "a day|2.png"), grey(300, 401, 120))
    cv2.imwrite(str(folder / "003.jpg"), grey(64, 48, 150))
    write_clip(folder / "walk.mp4", (grey(320, 240, 20 * number) for number in range(10)), 25, (320, 240))
    with av.open(str(folder / "cars.gif"), "w") as container:
        stream = container.add_stream("gif", rate=5, width=64, height=48, pix_fmt="gray")
        for number in range(4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey(64, 48, 60 * number)[..., 0], format="gray")))
        container.mux(stream.encode())

    def source(prefix: str, name: str, numbers: tuple[int, ...] = (), flag: str = "ok") -> StreetSource:
        file = RepositoryFile("owner/streets", COMMIT, name, file_sha256(folder / name))
        return StreetSource(prefix, numbers, file, "MIT", "a street", flag)

    table = [
        source("photo", "photo.jpg"), source("drawing", "a day|2.png"), source("walk", "walk.mp4", (0, 4, 9)),
        source("cars", "cars.gif", (1, 3)), source("junction", "003.jpg", (2,), "check: author not named"),
    ]  # fmt: skip
    monkeypatch.setattr(fetch_street, "street_sources", lambda: table)
    monkeypatch.setenv("VITMALIS_CACHE", str(tmp_path / "cache"))
    return table


NAMES = {
    "photo.jpg": (960, 540, 90), "drawing.jpg": (300, 401, 120), "walk_00000.jpg": (320, 240, 0),
    "walk_00004.jpg": (320, 240, 80), "walk_00009.jpg": (320, 240, 180), "cars_00001.jpg": (64, 48, 60),
    "cars_00003.jpg": (64, 48, 180), "junction_00002.jpg": (64, 48, 150),
}  # fmt: skip
"""Width, height and grey level of each frame."""


def test_from_a_server_to_frames_that_training_reads(
    published: list[StreetSource], publisher: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "street"
    assert fetch_street.main(["--output", str(folder)]) == 0
    assert f"8 frames in {folder}" in capsys.readouterr().out
    assert publisher[1] == f"/owner/streets/{COMMIT}/a day|2.png"
    for name, (width, height, value) in NAMES.items():
        image = cv2.imread(str(folder / name))
        assert image is not None
        assert image.shape == (height, width, 3)
        assert abs(float(image.mean()) - value) < 4
    assert {path.name for path in folder.iterdir()} == {*NAMES, "sources.csv"}
    (row, *_) = csv.DictReader((folder / "sources.csv").read_text().splitlines())
    assert row == {
        "prefix": "photo", "repository": "owner/streets", "commit": COMMIT, "path": "photo.jpg", "licence": "MIT",
        "shows": "a street", "licence_flag": "ok",
    }  # fmt: skip

    (folder / "labels.csv").write_text("file,x1,y1,x2,y2,score,class\nwalk_00004.jpg,8,8,32,80,0.9,person\n")
    overrides = [f"street.folder={folder}", "street.validation_share=0"]
    config = checked(compose("train_detector", overrides), DetectorTrainingConfig)
    frames = read_street(config.street, (960, 540)).train
    assert {frame.scene for frame in frames} == {"photo", "drawing", "walk", "cars", "junction"}
    assert sum(len(frame.targets) for frame in frames) == 1

    assert fetch_street.main(["--output", str(folder)]) == 0
    assert len(publisher) == 5  # the second call finds all files in the cache


def test_sources_with_a_clear_licence_alone(
    published: list[StreetSource], publisher: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clear = ["--output", str(tmp_path / "clear"), "--clear"]
    assert fetch_street.main(clear) == 0
    assert not (tmp_path / "clear" / "junction_00002.jpg").exists()
    assert all("003.jpg" not in path for path in publisher)
    all_of_them = ["--output", str(tmp_path / "all")]
    assert fetch_street.main(all_of_them) == 0
    assert fetch_street.main([*all_of_them, "--clear"]) == 2
    assert "sources.csv' has other sources, such as 'junction': give another --output" in capsys.readouterr().err


def test_other_content_is_refused_and_nothing_is_made(
    published: list[StreetSource], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mirror" / "streets" / "photo.jpg").write_bytes(b"another file")
    arguments = ["--output", str(tmp_path / "street"), "--mirror", str(tmp_path / "mirror")]
    assert fetch_street.main(arguments) == 2
    assert "photo.jpg is refused: sha256" in capsys.readouterr().err
    assert not (tmp_path / "street").exists()


def test_offline_is_one_clear_line(
    published: list[StreetSource],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(repository_files, "HOST", "http://127.0.0.1:9")  # nothing listens there
    assert fetch_street.main(["--output", str(tmp_path / "street")]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert "photo.jpg could not be downloaded" in line
    assert "--mirror" in line
    assert not (tmp_path / "street").exists()


def test_a_video_with_too_few_frames_is_named(
    published: list[StreetSource], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    walk = published[2]
    published[2] = StreetSource("walk", (0, 99), walk.file, walk.licence, walk.shows, walk.licence_flag)
    arguments = ["--output", str(tmp_path / "street"), "--mirror", str(tmp_path / "mirror")]
    assert fetch_street.main(arguments) == 2
    assert "walk.mp4' has 1 of the 2 frames that are taken of it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("size", "expected"), [((1920, 1080), (960, 540)), ((1000, 1730), (555, 960)), ((640, 427), (640, 427))]
)
def test_large_images_are_shrunk_and_small_ones_kept(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert shrunk(grey(*size, 0)).shape[:2] == expected[::-1]
