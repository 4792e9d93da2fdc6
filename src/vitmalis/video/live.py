"""Live sources: cameras of this machine, streams of a network, and GStreamer pipelines."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np

from vitmalis.errors import UserError
from vitmalis.types import RgbImage

CAMERA_PREFIX = "camera:"
FIRST_IMAGE_S = 10.0
"""Longest wait for the first image of a source."""
_TIMEOUT_MS = 5000


def live_source(path: str | None) -> str:
    """The name of a live source: `camera:0` for the index of a camera and for none, anything else as it is."""
    source = str(path if path is not None else 0)
    return f"{CAMERA_PREFIX}{source}" if source.isdigit() else source


def live_images(source: str) -> Generator[RgbImage, None, None]:
    """Yield the images of a live source, RGB uint8 (H, W, 3), as they come.

    Args:
        source: `camera:0`, a device file, the address of a stream such as `rtsp://host/path`, or a GStreamer pipeline
            that ends in `appsink`.

    Raises:
        UserError: it cannot be opened, or stops.
    """
    capture, hint = _capture(source)
    try:
        if not capture.isOpened():
            raise UserError(f"live source '{source}' cannot be opened: {hint}")
        while True:
            ok, bgr = capture.read()
            if not ok:
                raise UserError(f"live source '{source}' stopped delivering frames")
            yield np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
    finally:
        capture.release()


def check_live(source: str) -> None:
    """Take one image of a live source.

    Raises:
        UserError: it cannot be opened, or gives no image within `FIRST_IMAGE_S`.
    """
    outcome: queue.SimpleQueue[UserError | None] = queue.SimpleQueue()

    def take() -> None:
        try:
            with closing(live_images(source)) as images:  # released before the result is known
                next(images)
            outcome.put(None)
        except UserError as error:
            outcome.put(error)

    # In a thread that is left behind if need be: a driver or a stream may not return for minutes.
    threading.Thread(target=take, name="live source", daemon=True).start()
    try:
        error = outcome.get(timeout=FIRST_IMAGE_S)
    except queue.Empty:
        raise UserError(f"live source '{source}' gave no image within {FIRST_IMAGE_S:g} s: is it in use?") from None
    if error is not None:
        raise error


def _capture(source: str) -> tuple[cv2.VideoCapture, str]:
    """Open a source; also returns what may be the reason if it did not open."""
    if source.startswith(CAMERA_PREFIX):
        index = source.removeprefix(CAMERA_PREFIX)
        if not index.isdigit():
            raise UserError(f"live source '{source}': give the index of a camera, such as {CAMERA_PREFIX}0")
        return cv2.VideoCapture(int(index)), "is it connected, and is its index right?"
    if "!" in source:
        hint = "does the pipeline end in 'appsink', and is this OpenCV built with GStreamer?"
        return cv2.VideoCapture(source, cv2.CAP_GSTREAMER), hint
    if "://" in source:
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, _TIMEOUT_MS]
        return cv2.VideoCapture(source, cv2.CAP_FFMPEG, limits), "is the address right, and does its host answer?"
    if Path(source).is_file():
        raise UserError(f"live source '{source}' is a file: play it with video=file video.path={source}")
    return cv2.VideoCapture(source), "give the index of a camera, a stream's address, or a GStreamer pipeline"
