"""Contract of all video sources."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from vitmalis.types import RgbImage
from vitmalis.video.source import VideoSource, check_source


class VideoContract:
    """Tests of a video source; see `vitmalis.testing`."""

    make: Callable[[], VideoSource]

    @pytest.fixture
    def build(self) -> Callable[[], VideoSource]:
        """Build an instance of the source."""
        return self.make

    def test_it_says_its_rate_its_length_and_its_size(self, build: Callable[[], VideoSource]) -> None:
        """They are known before the first image."""
        source = check_source("source", build())
        assert isinstance(source.stand_in, str)

    def test_its_images_are_as_many_and_of_the_kind_that_it_says(self, build: Callable[[], VideoSource]) -> None:
        """RGB uint8 of one size, no fewer than `frames`."""
        source = build()
        width, height = source.size
        count = 0
        for image in self._images(source):
            assert isinstance(image, np.ndarray)
            assert (image.dtype, image.shape) == (np.dtype(np.uint8), (height, width, 3))
            count += 1
        assert count == source.frames

    def test_its_images_are_the_same_at_every_call(self, build: Callable[[], VideoSource]) -> None:
        """References are computed from other passes than the one that is played."""
        source = build()
        first, again, other = self._digest(source), self._digest(source), self._digest(build())
        assert first == again == other
        assert source.content() == build().content()

    def _images(self, source: VideoSource) -> Iterator[RgbImage]:
        return itertools.islice(source.images(), source.frames)

    def _digest(self, source: VideoSource) -> str:
        content = hashlib.sha256()
        for image in self._images(source):
            content.update(np.ascontiguousarray(image).tobytes())
        return content.hexdigest()
