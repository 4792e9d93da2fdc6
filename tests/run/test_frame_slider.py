"""The slider over frames: all images are in it, and a browser steps through them."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.run.page.browser import chromium
from vitmalis_jobs.run.figures.frame_slider import frame_slider

IMAGES = [np.full((40, 60, 3), 60 * index, np.uint8) for index in range(4)]


def test_every_image_is_in_it_and_the_first_shown_without_scripts() -> None:
    html = frame_slider(IMAGES, fps=10, start=2)
    found = re.search(r"frames = (\[.*?\]), fps = 10;", html)
    assert found
    frames = json.loads(found[1])
    decoded = [cv2.imdecode(np.frombuffer(base64.b64decode(each), np.uint8), cv2.IMREAD_COLOR) for each in frames]
    assert [round(float(np.mean(image)) / 60) for image in decoded] == [0, 1, 2, 3]
    assert f'<img src="data:image/jpeg;base64,{frames[2]}"' in html
    assert html == frame_slider(IMAGES, fps=10, start=2)


def test_wide_images_are_made_smaller() -> None:
    html = frame_slider([np.zeros((400, 2000, 3), np.uint8)], fps=10, max_width=500)
    first = re.search(r'<img src="data:image/jpeg;base64,([^"]+)"', html)
    assert first
    image = cv2.imdecode(np.frombuffer(base64.b64decode(first[1]), np.uint8), cv2.IMREAD_COLOR)
    assert np.asarray(image).shape == (100, 500, 3)


@pytest.mark.slow
def test_a_browser_steps_and_plays(tmp_path: Path) -> None:
    page = tmp_path / "slider.html"
    page.write_text(f"<!doctype html><meta charset=utf-8><link rel=icon href='data:,'>{frame_slider(IMAGES, fps=20)}")
    with chromium(tmp_path / "profile") as tab:
        tab.open(page)
        first = tab.run("document.querySelector('img').src")
        tab.run("{const s = document.querySelector('input'); s.value = 2; s.dispatchEvent(new Event('input'))}")
        assert tab.run("document.querySelector('output').value") == "2"
        assert tab.run("document.querySelector('img').src") != first
        tab.run("document.querySelector('button').click()")
        tab.wait("document.querySelector('output').value === '3'")
        tab.wait("document.querySelector('button').textContent === 'play'")
        tab.run("document.querySelector('button').click()")  # from the start again
        tab.wait("document.querySelector('output').value === '3'")
        assert tab.problems == []
