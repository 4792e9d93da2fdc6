"""Pictures of run pages in the documentation: an animation (WebP), or one frame as it is on the screen (PNG).

The commands are in docs/videos.md.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from pathlib import Path

from PIL import Image

from tests.run.page.browser import Tab, chromium

VIEW_PX, SIZE_PX = (1366, 905), (960, 636)
FRAME_MS = 125


def picture(tab: Tab, frame: int, path: Path) -> Image.Image:
    """Write what the page shows at a frame as PNG; returns it in the size of the animation."""
    tab.run(
        f"{{ const slider = document.querySelector('input[type=range]'); slider.value = {frame};"
        " slider.dispatchEvent(new Event('input')) }"
    )
    tab.wait("[...document.querySelectorAll('video')].every((video) => !video.seeking)")
    tab.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    tab.screenshot(path)
    return Image.open(io.BytesIO(path.read_bytes())).convert("RGB").resize(SIZE_PX, Image.Resampling.LANCZOS)


def main() -> None:
    """Write the picture that the command line asks for."""
    parser = argparse.ArgumentParser(description="Make an animation of the page of a run, or a picture of one frame.")
    parser.add_argument("page", type=Path, help="run.html, or the page of a comparison")
    parser.add_argument("output", type=Path, help="file: WebP for an animation, PNG for the first frame alone")
    parser.add_argument("--frames", type=int, nargs=3, default=(40, 135, 2), help="first frame, end, step")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, chromium(Path(folder) / "profile") as tab:
        tab.open(options.page, *VIEW_PX)
        if options.output.suffix == ".png":
            picture(tab, options.frames[0], options.output)
            return
        shot = Path(folder) / "shot.png"
        first, *others = [picture(tab, frame, shot) for frame in range(*options.frames)]
    first.save(options.output, save_all=True, append_images=others, duration=FRAME_MS, loop=0, quality=60, method=6)


if __name__ == "__main__":
    main()
