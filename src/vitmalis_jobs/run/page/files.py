"""Pages as files: each holds its documents, its video, style and scripts, so that it needs nothing else."""

from __future__ import annotations

import base64
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from jinja2 import Environment, PackageLoader

from vitmalis.errors import UserError
from vitmalis.paths import atomic_path
from vitmalis.types import RgbImage
from vitmalis.untrusted_files import damage_reported, decode_json
from vitmalis_jobs.run.page.clip_video import write_clip_video
from vitmalis_jobs.run.page.document import FORMAT, RunDocument

PAGE_FILE, PAGE_VIDEO_FILE = "run.html", "run.mp4"
MAX_INLINE_BYTES = 20 * 2**20
"""Size up to which the video lies inside the page; a larger one lies next to it, under the same name."""

_SCRIPTS = ("format", "run", "overlay", "stage", "plot", "candidates", "lanes", "timeline", "player", "panel")
"""Scripts of every page in `assets/`, in the order in which they are run; the page's own follows."""
_ELEMENT = re.compile(r'<script id="(run|video)" type="[\w/+]+"(?: data-src="([^"]*)")?>(.*?)</script>', re.DOTALL)


@dataclass(frozen=True, slots=True)
class PageVideo:
    """The video of a page.

    Attributes:
        data: the MP4 file in base64; empty for one next to the page.
        file: name of the file next to the page; empty for one inside it. Both are empty where there is no video.
    """

    data: str = ""
    file: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """The page of a run, read back from its file."""

    path: Path
    document: RunDocument
    video: PageVideo

    @property
    def video_file(self) -> Path | None:
        """The video next to the page; None where there is none."""
        return self.path.parent / self.video.file if self.video.file else None


def write_run_page(path: Path, document: RunDocument, images: Iterable[RgbImage] | None) -> list[Path]:
    """Write the page of a run.

    Args:
        path: of the page.
        document: what it shows.
        images: of the played frames, RGB uint8 (H, W, 3); None where there are none, such as after a live source.

    Returns:
        The files written: the page, and its video where that is large.
    """
    video_path = path.with_suffix(".mp4")
    video = PageVideo()
    if images is not None and write_clip_video(video_path, images, document.clip.fps):
        video = _inline_if_small(video_path)
    title = f"{document.policy} on {document.clip.name} over {document.trace}"
    write_page(path, "run", title, [document], video)
    return [path, video_path] if video.file else [path]


def write_page(path: Path, kind: str, title: str, documents: Sequence[RunDocument], video: PageVideo) -> None:
    """Write a page of some kind: `run` of one document, `compare` of two."""
    environment = Environment(
        loader=PackageLoader("vitmalis_jobs.run.page", "assets"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.get_template("page.html.j2").render(
        kind=kind,
        title=title,
        documents=[script_text(msgspec.json.encode(document)) for document in documents],
        video=video,
        style=asset("page.css"),
        scripts=[asset(f"{name}.js") for name in (*_SCRIPTS, f"{kind}_page")],
    )
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def read_page(path: Path) -> Page:
    """Read the page of a run.

    Raises:
        UserError: the file is missing, damaged, no run page, or one of another version.
    """
    if not path.is_file():
        raise UserError(f"run page '{path}': there is no such file")
    with damage_reported(f"run page '{path}'", "make the page again: vitmalis page RUN"):
        elements = {name: (src, text) for name, src, text in _ELEMENT.findall(path.read_text(encoding="utf-8"))}
        if "run" not in elements:
            raise ValueError("no run in it")
        found = decode_json(elements["run"][1].encode(), _Versioned).format
        if found != FORMAT:
            raise UserError(f"run page '{path}': version {found}, this code reads {FORMAT}: vitmalis page RUN")
        document = decode_json(elements["run"][1].encode(), RunDocument)
    file, data = elements.get("video", ("", ""))
    return Page(path, document, PageVideo(data, Path(file).name))


def copy_video(page: Page, path: Path) -> PageVideo:
    """The video of a page for another page at a path, to which a file next to it is copied.

    Raises:
        UserError: that file is missing.
    """
    if page.video_file is None:
        return page.video
    if not page.video_file.is_file():
        raise UserError(f"run page '{page.path}': its video '{page.video_file.name}' is not next to it")
    target = path.with_suffix(".mp4")
    with atomic_path(target) as temporary:
        shutil.copyfile(page.video_file, temporary)
    return PageVideo(file=target.name)


class _Versioned(msgspec.Struct):
    """The version of a document whose other parts may have changed."""

    format: int = 0


def _inline_if_small(path: Path) -> PageVideo:
    if path.stat().st_size > MAX_INLINE_BYTES:
        return PageVideo(file=path.name)
    data = base64.b64encode(path.read_bytes()).decode()
    path.unlink()
    return PageVideo(data=data)


def script_text(json: bytes) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.decode().replace("<", "\\u003c")


def asset(name: str) -> str:
    """Text of a file in `assets/`, which other pages share."""
    return (Path(__file__).parent / "assets" / name).read_text(encoding="utf-8")
