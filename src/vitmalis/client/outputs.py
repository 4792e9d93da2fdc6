"""What a client gives out besides its records: a recording of its camera, and a view of what it renders."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from vitmalis.client.events import Action, Event
from vitmalis.client.recorder import Recorder
from vitmalis.client.view import ViewFeed
from vitmalis.errors import UserError
from vitmalis.types import Frame
from vitmalis.video.recording import Recording


class Outputs:
    """The recording and the view of a client, as far as they are wanted.

    Args:
        recording: file for the frames of the camera; None for none.
        viewer: Unix socket of a viewer; None for none.
        fps: frames per second of the camera.

    Raises:
        UserError: the file cannot be created, or no viewer listens.
    """

    def __init__(self, recording: Path | None = None, viewer: str | None = None, fps: float = 30.0) -> None:
        self._feed = None if viewer is None else _feed(viewer)  # first, as without a viewer there is no file either
        self._recording = None if recording is None else Recording(recording, fps)

    def observe(self, what: Event | Action) -> None:
        """Note what changes the view."""
        if self._feed is not None:
            self._feed.observe(what)

    def record(self, frame: Frame) -> None:
        """Record a frame of the camera."""
        if self._recording is not None:
            self._recording.put(frame)

    @contextmanager
    def written(self, recorder: Recorder) -> Iterator[None]:
        """Write them while the block plays; in the end the recording has as many frames as the recorder."""
        with self._recording or nullcontext(), self._feed or nullcontext():
            try:
                yield
            finally:
                if self._recording is not None:
                    self._recording.end_at(recorder.frame_count)


def _feed(viewer: str) -> ViewFeed:
    try:
        return ViewFeed(viewer)
    except OSError as error:
        raise UserError(f"--view {viewer}: no viewer listens there ({error.strerror})") from error
