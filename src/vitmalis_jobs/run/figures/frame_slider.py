"""A slider over frames as one piece of HTML that needs neither a server nor a running notebook."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable

import numpy as np

from vitmalis.codec.jpeg import encode_jpeg
from vitmalis.fingerprint import digest
from vitmalis.types import RgbImage
from vitmalis.video.spec import fit_size, resize

_QUALITY = 80
_HTML = """<figure id="{name}" style="margin: 0; max-width: {width}px">
<img src="{first}" style="width: 100%" alt="a frame of the run">
<div style="display: flex; gap: 8px; align-items: center; font: 13px sans-serif">
<button type="button">play</button>
<input type="range" min="0" max="{last}" value="{start}" style="flex: 1" aria-label="frame">
<output style="min-width: 6em; text-align: right">{start}</output>
</div>
<script>
{{
const figure = document.getElementById({name_json}), frames = {frames}, fps = {fps};
const [image, slider, output, button] = ["img", "input", "output", "button"].map((tag) => figure.querySelector(tag));
let timer = 0;
const show = (frame) => {{
  slider.value = output.value = frame;
  image.src = "data:image/jpeg;base64," + frames[frame];
}};
const stop = () => {{ clearInterval(timer); timer = 0; button.textContent = "play"; }};
const step = () => Number(slider.value) < frames.length - 1 ? show(Number(slider.value) + 1) : stop();
slider.addEventListener("input", () => {{ stop(); show(Number(slider.value)); }});
button.addEventListener("click", () => {{
  if (timer) return stop();
  if (Number(slider.value) === frames.length - 1) show(0);
  button.textContent = "stop";
  timer = setInterval(step, 1000 / fps);
}});
}}
</script>
</figure>"""


def frame_slider(images: Iterable[RgbImage], fps: float, start: int = 0, max_width: int = 1100) -> str:
    """HTML that shows one of several images, with a slider and a button that plays them.

    Where scripts do not run, as in a static preview, the image at `start` is shown. In a notebook:
    `IPython.display.HTML(frame_slider(...))`.

    Args:
        images: RGB uint8 (H, W, 3), at least one.
        fps: at which they are played.
        start: the one that is shown first.
        max_width: of the images, pixels; larger ones are made smaller.
    """
    frames = [base64.b64encode(encode_jpeg(_smaller(image, max_width), _QUALITY)).decode() for image in images]
    name = f"frames-{digest(frames)[:12]}"  # of its content, so that a notebook's output is the same every time
    return _HTML.format(
        name=name,
        name_json=json.dumps(name),
        width=max_width,
        first=f"data:image/jpeg;base64,{frames[start]}",
        start=start,
        last=len(frames) - 1,
        frames=json.dumps(frames),
        fps=json.dumps(fps),
    )


def _smaller(image: RgbImage, max_width: int) -> RgbImage:
    height, width = image.shape[:2]
    if width <= max_width:
        return image
    return np.ascontiguousarray(resize(image, *fit_size(width, height, max_width, height)))
