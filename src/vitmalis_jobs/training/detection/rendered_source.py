"""Rendered training frames: an endless, seeded sequence of frames from scenes of every profile."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from vitmalis.types import RgbImage
from vitmalis.video.standin import SceneFrame
from vitmalis_jobs.training.detection.labels import Targets, rendered_targets

CACHED_FRAMES = 16


class Scene(Protocol):
    """A rendered scene with true boxes."""

    def render_full(self, frame_index: int) -> SceneFrame:
        """Render a frame with its true boxes and the visible share of each."""


@dataclass
class RenderedSource:
    """Frames of seeded scenes: `frames_per_scene` of each, `frame_step` apart.

    Attributes:
        make: factory of scenes: (profile, seed) -> scene.
        profiles: names of the profiles, which take turns.
        first_seed: seed of the first training scene; validation scenes have smaller ones.
        frames_per_scene: frames taken of a scene before the next seed.
        frame_step: scene frames from one taken frame to the next.
    """

    make: Callable[[str, int], Scene]
    profiles: tuple[str, ...]
    first_seed: int
    frames_per_scene: int
    frame_step: int = 11
    _scenes: OrderedDict[tuple[str, int], Scene] = field(default_factory=OrderedDict)
    _frames: OrderedDict[int, tuple[RgbImage, Targets]] = field(default_factory=OrderedDict)

    def frame(self, number: int) -> tuple[RgbImage, Targets]:
        """Frame `number` of the sequence and its targets; the last few are cached."""
        if number not in self._frames:
            self._frames[number] = self._render(number)
            if len(self._frames) > CACHED_FRAMES:
                self._frames.popitem(last=False)
        return self._frames[number]

    def _render(self, number: int) -> tuple[RgbImage, Targets]:
        turn, profile = divmod(number, len(self.profiles))
        scene, position = divmod(turn, self.frames_per_scene)
        key = (self.profiles[profile], self.first_seed + scene)
        if key not in self._scenes:
            self._scenes[key] = self.make(*key)
            if len(self._scenes) > 2 * len(self.profiles):
                self._scenes.popitem(last=False)
        frame = self._scenes[key].render_full(position * self.frame_step)
        return frame.image, rendered_targets(frame.boxes, frame.visible)
