"""Pages as files: what is inside, what lies next to them, and which are refused."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
from pathlib import Path

import av
import msgspec
import pytest

from tests.run.page.small_run import FPS, images, small_run, write_clip
from vitmalis.errors import UserError
from vitmalis_jobs.run.page import files
from vitmalis_jobs.run.page.build import run_document
from vitmalis_jobs.run.page.document import RunDocument
from vitmalis_jobs.run.page.files import read_page, write_run_page


@pytest.fixture
def document(tmp_path: Path) -> RunDocument:
    write_clip(tmp_path / "clip.mp4")
    return run_document(small_run(tmp_path / "clip.mp4"))


def test_a_page_is_one_file_that_can_be_read_back(tmp_path: Path, document: RunDocument) -> None:
    path = tmp_path / "run.html"
    assert write_run_page(path, document, images()) == [path]
    page = read_page(path)
    assert page.document == document
    assert page.video_file is None
    with av.open(io.BytesIO(base64.b64decode(page.video.data))) as container:
        stream = container.streams.video[0]
        shown = list(container.decode(stream))
        assert float(stream.average_rate) == FPS
        assert stream.codec_context.name == "h264"
    assert [round(float(frame.time) * FPS) for frame in shown] == [0, 1, 2, 3]
    for frame, image in zip(shown, images(), strict=True):
        assert abs(frame.to_ndarray(format="rgb24").mean() - image.mean()) < 4


def test_a_large_video_lies_next_to_the_page(
    tmp_path: Path, document: RunDocument, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_INLINE_BYTES", 100)
    path = tmp_path / "run.html"
    assert write_run_page(path, document, images()) == [path, tmp_path / "run.mp4"]
    assert read_page(path).video_file == tmp_path / "run.mp4"


def test_a_page_requests_nothing_else(tmp_path: Path, document: RunDocument) -> None:
    write_run_page(tmp_path / "run.html", document, images())
    text = re.sub(r'<script id="video".*?</script>', "", (tmp_path / "run.html").read_text(), flags=re.DOTALL)
    assert not re.findall(r"https?://|(?:src|href)=\"(?!\")", text)
    assert "default-src 'none'" in text


def test_a_name_cannot_leave_its_place(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4")
    name = "</script><script>alert('x')</script>"
    document = run_document(small_run(tmp_path / "clip.mp4", name=name))
    write_run_page(tmp_path / "run.html", document, None)
    assert "<script>alert" not in (tmp_path / "run.html").read_text()
    assert read_page(tmp_path / "run.html").document.clip.name == name


def test_a_run_without_images_has_no_video(tmp_path: Path, document: RunDocument) -> None:
    write_run_page(tmp_path / "run.html", document, None)
    assert read_page(tmp_path / "run.html").video == files.PageVideo()


def test_foreign_pages_are_refused(tmp_path: Path, document: RunDocument) -> None:
    path = tmp_path / "run.html"
    with pytest.raises(UserError, match="there is no such file"):
        read_page(path)
    path.write_text("<html></html>")
    with pytest.raises(UserError, match="no run in it"):
        read_page(path)
    write_run_page(path, msgspec.structs.replace(document, format=99), None)
    with pytest.raises(UserError, match=r"version 99, this code reads 1: vitmalis page RUN"):
        read_page(path)
    write_run_page(path, msgspec.structs.replace(document, frames=None), None)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="damaged or of another kind"):
        read_page(path)


def test_a_video_file_is_next_to_its_page(tmp_path: Path, document: RunDocument) -> None:
    path = tmp_path / "run.html"
    video = files.PageVideo(file="../../secret.mp4")
    files.write_page(path, "run", "title", [document], video)
    assert read_page(path).video_file == tmp_path / "secret.mp4"


def test_a_run_without_frames_has_a_page(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4")
    played = small_run(tmp_path / "clip.mp4")
    empty = dataclasses.replace(played.records, frames=[], offloads=[], decisions=[])
    document = run_document(dataclasses.replace(played, records=empty))
    assert write_run_page(tmp_path / "run.html", document, []) == [tmp_path / "run.html"]
