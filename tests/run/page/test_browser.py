"""Pages in a headless Chromium: they open without errors, seek, switch layers, and show the records' numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.run.page.browser import Tab, chromium
from tests.run.page.small_run import images, of_bandit, small_run, varied, with_cached, write_clip
from vitmalis.instance_masks import MASK_SIDE
from vitmalis_jobs.evaluation.compare import compare
from vitmalis_jobs.run.page import files
from vitmalis_jobs.run.page.build import run_document
from vitmalis_jobs.run.page.files import read_page, write_run_page

pytestmark = pytest.mark.slow

PIXEL = "[...document.querySelector('.main canvas').getContext('2d').getImageData({x}, {y}, 1, 1).data]"


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Tab]:
    with chromium(tmp_path / "profile") as tab:
        yield tab
        assert tab.problems == []
        assert {address.split(":")[0] for address in tab.requests} <= {"file", "blob"}


@pytest.fixture
def page(tmp_path: Path) -> Path:
    write_clip(tmp_path / "clip.mp4")
    write_run_page(tmp_path / "run.html", run_document(small_run(tmp_path / "clip.mp4")), images())
    return tmp_path / "run.html"


def text(tab: Tab, selector: str) -> str:
    return str(tab.run(f"document.querySelector({selector!r}).textContent"))


def pixel(tab: Tab, x: float, y: float) -> list[int]:
    """RGB of the frame at a place, given as shares of its width and height."""
    size = "document.querySelector('.main canvas')"
    return list(tab.run(PIXEL.format(x=f"{x} * {size}.width", y=f"{y} * {size}.height")))[:3]


def go(tab: Tab, frame: int) -> None:
    """Move the slider, and wait until the frame's image is drawn: frame k is grey of brightness 40 (k + 1)."""
    tab.run(
        f"{{ const slider = document.querySelector('input[type=range]'); slider.value = {frame};"
        " slider.dispatchEvent(new Event('input')) }"
    )
    tab.wait(f"Math.abs({PIXEL.format(x=2, y=2)}[1] - {40 * (frame + 1)}) < 8")


def test_the_numbers_are_those_of_the_records(tab: Tab, page: Path) -> None:
    tab.open(page)
    assert text(tab, "h1") == "vitmalis on clip over 4g_00"
    assert text(tab, "output").startswith("frame 2 "), "the first with a result"
    assert "rendering F10.333" in text(tab, ".metrics")
    go(tab, 2)
    assert text(tab, "output") == "frame 2 of 3 · 0.20 s"
    assert text(tab, ".main figcaption") == "F1 0.67 · boxes from offload 0, tracked, 200\u00a0ms old (2 frames)"
    assert text(tab, ".panel h2") == "Offload 1 · tau_d 1, quality 70, restoration point 3"
    assert text(tab, ".panel .status") == "lost: no answer"
    rows = tab.run("[...document.querySelectorAll('.panel tr')].map((row) => [...row.cells].map((c) => c.textContent))")
    assert rows[1:] == [
        ["payload", "4\u00a0KiB", "–"],
        ["uplink", "5.0\u00a0Mbps", "–"],
        ["E2E latency", "250\u00a0ms", "–"],
        ["F1", "0.75", "–"],
    ]
    assert "3 candidates, 3 on the frontier; chosen: at the knee." in text(tab, ".panel .note")
    assert "Frame 2 as it was sent: 1 of 2 regions at 1/2 of the resolution, JPEG quality 70." in text(tab, ".panel")
    assert tab.run("document.querySelectorAll('.wide tbody tr').length") == 2


def test_keys_and_clicks_seek(tab: Tab, page: Path) -> None:
    tab.open(page)
    go(tab, 0)
    tab.press("ArrowRight")
    assert text(tab, "output").startswith("frame 1 ")
    assert "frame lost by the camera" in text(tab, ".main figcaption")
    tab.press("n")  # the next offload
    assert text(tab, "output").startswith("frame 2 ")
    tab.press("End")
    assert text(tab, "output").startswith("frame 3 ")
    x, y = tab.run(
        "(({left, top, width}) => [left + 134 + (width - 212) * 0.4, top + 20])"
        "(document.querySelector('.timeline').getBoundingClientRect())"
    )
    for kind in ("mousePressed", "mouseReleased"):
        tab.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
    assert text(tab, "output").startswith("frame 1 ")  # 0.4 of 0.4 s is 0.16 s


def test_the_address_names_a_frame(tab: Tab, page: Path) -> None:
    tab.open(page)
    for address, frame in (("#frame=1", 1), ("#frame=3", 3), ("#frame=abc", 3), ("#", 3), ("#frame=99", 3)):
        tab.run(f"location.hash = {address!r}")
        tab.wait(f"document.querySelector('output').textContent.startsWith('frame {frame} ')")


def test_the_image_is_that_of_the_last_of_many_seeks(tab: Tab, page: Path) -> None:
    tab.open(page)
    go(tab, 0)
    moves = "".join(f"slider.value = {frame}; slider.dispatchEvent(new Event('input'));" for frame in (3, 1, 0, 3))
    tab.run(f"{{ const slider = document.querySelector('input[type=range]'); {moves} }}")
    go(tab, 2)


def test_layers_are_switched(tab: Tab, page: Path) -> None:
    """The wrong car's left edge is at x = 200 of 320, y = 60 of 160; the right person's at x = 22."""
    tab.open(page)
    go(tab, 2)
    grey = pixel(tab, 0.9, 0.9)
    wrong, right = (200 / 320, 0.45), (22 / 320, 0.5)
    assert pixel(tab, *wrong) != grey
    assert pixel(tab, *right) != grey
    tab.press("2")
    assert pixel(tab, *wrong) == grey
    assert pixel(tab, *right) != grey
    tab.run("document.getElementById('layer-boxes').click()")
    assert pixel(tab, *right) == grey
    tab.press("5")  # region types: the right half is a CMR, tinted
    assert pixel(tab, 0.9, 0.9) != grey


def test_masks_are_tinted_where_a_run_has_some(tab: Tab, page: Path) -> None:
    """In frame 3 a person whose box is 20..60 by 30..110 of 320 x 160, and whose mask is its upper half."""
    tab.open(page)
    assert not tab.run("!!document.getElementById('layer-masks')")
    played = small_run(page.with_name("clip.mp4"))
    upper = np.zeros((1, MASK_SIDE, MASK_SIDE), np.uint8)
    upper[:, : MASK_SIDE // 2] = 255
    *frames, last = played.records.frames
    last = dataclasses.replace(last, detections=dataclasses.replace(last.detections, masks=upper))
    records = dataclasses.replace(played.records, frames=[*frames, last])
    write_run_page(page, run_document(dataclasses.replace(played, records=records)), images())
    tab.open(page)
    go(tab, 3)
    grey, inside, below = pixel(tab, 0.9, 0.9), (40 / 320, 50 / 160), (40 / 320, 90 / 160)
    assert pixel(tab, *inside) != grey
    assert pixel(tab, *below) == grey
    tab.press("2")  # the person is wrong: nobody is there any more
    assert pixel(tab, *inside) == grey
    tab.press("2")
    tab.press("7")
    assert pixel(tab, *inside) == grey


def test_what_newer_policies_do_is_drawn(tab: Tab, page: Path) -> None:
    """Offload 0 has coarse macroblocks but for those at the person, offload 1 regions that were not sent."""
    write_run_page(page, run_document(varied(small_run(page.with_name("clip.mp4")))), images())
    tab.open(page)
    go(tab, 1)
    for key in ("1", "2", "3"):  # no boxes
        tab.press(key)
    grey, at_person = pixel(tab, 0.9, 0.9), (40 / 320, 70 / 160)
    tab.press("6")
    assert pixel(tab, 0.9, 0.9) != grey
    assert pixel(tab, *at_person) == grey
    assert text(tab, ".panel .stage figcaption").endswith("JPEG quality 75, 30 in the tinted macroblocks.")
    tab.press("6")  # as `go` looks at a corner of the plain frame
    go(tab, 2)
    tab.press("6")
    assert sum(pixel(tab, 0.9, 0.9)) < 3 * 100, "hatched: darker than grey 120"
    caption = "Frame 2 as it was sent: the others at full resolution, 1 cached, 1 treatment Z, JPEG quality 70."
    assert text(tab, ".panel .stage figcaption") == caption
    x, y = tab.run(  # the lane above that of lost frames
        "(({left, bottom, width}) => [left + 134 + (width - 212) * 0.6, bottom - 61])"
        "(document.querySelector('.timeline').getBoundingClientRect())"
    )
    tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    tab.wait("!document.querySelector('.tip').hidden")
    assert "frame 2 was declined: the policy offloaded nothing" in text(tab, ".tip")


def test_a_candidate_with_cached_regions_says_so(tab: Tab, page: Path) -> None:
    write_run_page(page, run_document(with_cached(small_run(page.with_name("clip.mp4")))), images())
    tab.open(page)
    go(tab, 2)
    label = tab.run("document.querySelector('canvas.candidates').getAttribute('aria-label')")
    assert "chosen: tau_d 1, quality 70, restoration point 3, 1 region cached, " in str(label)


def test_what_bandit_expects_is_called_a_reward(tab: Tab, page: Path) -> None:
    write_run_page(page, run_document(of_bandit(small_run(page.with_name("clip.mp4")))), images())
    tab.open(page)
    go(tab, 2)
    label = str(tab.run("document.querySelector('canvas.candidates').getAttribute('aria-label')"))
    assert label.endswith("restoration point 3, size and latency unknown, reward 0.75 expected")
    assert "F1––reward0.75–" in text(tab, ".panel table")


def test_it_plays_to_its_end(tab: Tab, page: Path) -> None:
    tab.open(page)
    go(tab, 0)
    tab.press(" ")
    tab.wait("document.querySelector('output').textContent.startsWith('frame 3 ')")
    tab.wait("document.querySelector('.play').textContent === 'Play'")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_follows_the_theme(tab: Tab, page: Path, scheme: str) -> None:
    tab.open(page, scheme=scheme)
    background = tab.run("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(244, 245, 247)", "dark": "rgb(17, 19, 24)"}[scheme]


def test_a_video_next_to_the_page_plays(tab: Tab, page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_INLINE_BYTES", 100)
    write_run_page(page, run_document(small_run(page.with_name("clip.mp4"))), images())
    tab.open(page)
    tab.press("End")  # pixels of a canvas with images of another file cannot be read
    tab.wait("Math.abs(document.querySelector('video').currentTime - 0.35) < 0.01")
    tab.wait("!document.querySelector('video').seeking")


def test_two_runs_are_compared(tab: Tab, page: Path, tmp_path: Path) -> None:
    first = read_page(page)
    boxes = [[], [], [], []]
    frames = msgspec.structs.replace(first.document.frames, boxes=boxes, f1=[0.0, 0.0, 0.0, None])
    nothing_shown = msgspec.structs.replace(first.document, policy="back2back", frames=frames)
    write_run_page(tmp_path / "other.html", nothing_shown, images())
    tab.open(compare(read_page(tmp_path / "other.html"), first, tmp_path / "compare.html"))
    assert text(tab, "h1") == "back2back and vitmalis on clip over 4g_00"
    tab.run(
        "{ const slider = document.querySelector('input[type=range]'); slider.value = 2;"
        " slider.dispatchEvent(new Event('input')) }"
    )
    captions = tab.run("[...document.querySelectorAll('.both figcaption')].map((each) => each.textContent.slice(0, 7))")
    assert captions == ["F1 0.00", "F1 0.67"]
    x, y = tab.run(
        "(({left, top, width}) => [left + 134 + (width - 212) * 0.6, top + 20])"
        "(document.querySelector('.timeline').getBoundingClientRect())"
    )
    tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    tab.wait("!document.querySelector('.tip').hidden")
    assert "back2back: F1 0.00vitmalis: F1 0.67difference +0.67" in text(tab, ".tip")


def test_a_run_without_images_has_its_numbers(tab: Tab, page: Path) -> None:
    write_run_page(page, run_document(small_run(page.with_name("clip.mp4"))), None)
    tab.open(page)
    tab.press("End")
    assert text(tab, "output").startswith("frame 3 ")
