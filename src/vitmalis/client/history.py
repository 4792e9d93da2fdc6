"""The frames captured since an offload, for catch-up tracking (Glimpse's active cache [25])."""

from __future__ import annotations

from collections.abc import Collection

from vitmalis.tracker import TrackingImage


class FrameHistory:
    """Tracking images in the order of their frames, at most `capacity` and those of frames that are needed.

    When a long wait fills it, every second frame in the middle is dropped: catching up then takes larger steps but no
    more time, and memory stays bounded through an outage of any length.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 4:
            raise ValueError(f"a history of {capacity} frames is too short to thin out: use at least 4")
        self._capacity = capacity
        self._frames: list[tuple[int, TrackingImage]] = []

    def __len__(self) -> int:
        return len(self._frames)

    def __contains__(self, frame_index: int) -> bool:
        return any(kept == frame_index for kept, _ in self._frames)

    def append(self, frame_index: int, image: TrackingImage, needed: Collection[int] = ()) -> None:
        """Add the newest frame, and thin the history if it is full; no frame is dropped that is needed."""
        self._frames.append((frame_index, image))
        if len(self._frames) > self._capacity:
            thinned, latest = self._frames[:-2], self._frames[-2:]  # the last two keep the full frame rate
            kept = [entry for place, entry in enumerate(thinned) if place % 2 == 0 or entry[0] in needed]
            self._frames = kept + latest

    def forget_before(self, frame_index: int) -> None:
        """Drop the frames before `frame_index`."""
        self._frames = [entry for entry in self._frames if entry[0] >= frame_index]

    def since(self, frame_index: int) -> list[tuple[int, TrackingImage]]:
        """Return this frame and all later ones.

        Raises:
            KeyError: the frame is not in the history.
        """
        frames = [entry for entry in self._frames if entry[0] >= frame_index]
        if not frames or frames[0][0] != frame_index:
            raise KeyError(f"frame {frame_index} is not in the history")
        return frames

    def after(self, frame_index: int) -> list[tuple[int, TrackingImage]]:
        """Return the frames in the history that are later than `frame_index`."""
        return [entry for entry in self._frames if entry[0] > frame_index]
