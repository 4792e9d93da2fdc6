"""The frames between an offload and now, kept for catch-up tracking (Glimpse's active cache [25])."""

from __future__ import annotations

from vitmalis.tracker.optical_flow import GrayImage


class FrameHistory:
    """Grey images by frame index, in order, at most `capacity` of them.

    When a long wait fills it, every second frame in the middle goes: catching up then takes longer strides but costs
    no more, and memory stays bounded through an outage of any length.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 4:
            raise ValueError(f"a history of {capacity} frames is too short to thin out: use at least 4")
        self._capacity = capacity
        self._frames: list[tuple[int, GrayImage]] = []

    def __len__(self) -> int:
        return len(self._frames)

    def append(self, frame_index: int, image: GrayImage) -> None:
        """Add a newer frame."""
        self._frames.append((frame_index, image))
        if len(self._frames) > self._capacity:
            # The first frame is where the next result starts; the last two are needed at full rate.
            self._frames = [*self._frames[:-2:2], *self._frames[-2:]]

    def forget_before(self, frame_index: int) -> None:
        """Drop the frames before `frame_index`."""
        self._frames = [entry for entry in self._frames if entry[0] >= frame_index]

    def since(self, frame_index: int) -> list[tuple[int, GrayImage]]:
        """The frame itself and all later ones.

        Raises:
            KeyError: that frame is not kept.
        """
        frames = [entry for entry in self._frames if entry[0] >= frame_index]
        if not frames or frames[0][0] != frame_index:
            raise KeyError(f"frame {frame_index} is not in the history")
        return frames

    def after(self, frame_index: int) -> list[tuple[int, GrayImage]]:
        """The frames later than `frame_index` that are still kept."""
        return [entry for entry in self._frames if entry[0] > frame_index]
