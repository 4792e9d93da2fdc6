"""Recording of a live source: the frames that the camera delivered, as a video file with one image a frame index."""

from __future__ import annotations

import logging
import queue
import threading
from fractions import Fraction
from pathlib import Path
from typing import Self

import av
from av.video.stream import VideoStream

from vitmalis.errors import UserError
from vitmalis.types import Frame, RgbImage

log = logging.getLogger(__name__)

RECORDING_FILE = "camera.mkv"
"""Name of the recording in a run's folder; what is written of a Matroska file can be played after a crash."""
_WAITING_FRAMES = 16
_OPTIONS = {"crf": "14", "preset": "ultrafast", "bf": "0"}


class Recording:
    """Thread that writes the frames of a live source to a video in which image i is frame i.

    A frame that the source did not deliver, or that comes while `_WAITING_FRAMES` others wait to be encoded, is the
    frame before it again. The camera never waits.

    Args:
        path: of the file.
        fps: frames per second.

    Raises:
        UserError: the file cannot be created; later on, leaving the `with` block raises it where writing failed.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self._path, self._rate = path, Fraction(fps).limit_denominator(1001)
        try:
            path.touch()  # PyAV opens it with the first frame
            self._out = av.open(str(path), "w")
        except OSError as error:
            raise UserError(f"recording '{path}' cannot be written: {error.strerror}") from error
        self._stream: VideoStream | None = None
        self._last: RgbImage | None = None
        self._written = 0
        self._least = 0
        self._skipped = 0
        self._frames: queue.Queue[Frame | None] = queue.Queue(_WAITING_FRAMES)
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._work, name="recording", daemon=True)

    def put(self, frame: Frame) -> None:
        """Record a frame; indices grow."""
        try:
            self._frames.put_nowait(frame)
        except queue.Full:
            self._skipped += 1

    def end_at(self, frames: int) -> None:
        """Repeat the last frame at the end, if need be, until the video has so many."""
        self._least = frames

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._frames.put(None)
        self._thread.join()
        if self._skipped:
            log.warning("the recording repeats %d frames: encoding was slower than the camera", self._skipped)
        if self._error is not None:
            raise UserError(f"recording '{self._path}' ends early: {self._error.strerror}") from self._error

    def _work(self) -> None:
        try:
            with self._out:
                while (frame := self._frames.get()) is not None:
                    self._write(frame)
                self._finish()
        except OSError as error:  # `av.FFmpegError` is one
            self._error = error
            while self._frames.get() is not None:
                pass

    def _write(self, frame: Frame) -> None:
        if self._stream is None:
            self._stream = self._new_stream(frame.image)
        self._repeat(self._stream, frame.image if self._last is None else self._last, frame.index)
        self._encode(self._stream, frame.image)
        self._last = frame.image

    def _finish(self) -> None:
        if self._stream is not None and self._last is not None:
            self._repeat(self._stream, self._last, self._least)
            self._out.mux(self._stream.encode())

    def _repeat(self, stream: VideoStream, image: RgbImage, frames: int) -> None:
        while self._written < frames:
            self._encode(stream, image)

    def _new_stream(self, image: RgbImage) -> VideoStream:
        stream = self._out.add_stream("libx264", rate=self._rate, options=_OPTIONS)
        stream.height, stream.width = image.shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1
        return stream

    def _encode(self, stream: VideoStream, image: RgbImage) -> None:
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        frame.pts, frame.time_base = self._written, 1 / self._rate
        self._out.mux(stream.encode(frame))
        self._written += 1
