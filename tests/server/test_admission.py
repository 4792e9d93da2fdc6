"""Admission: the offloads that are refused before anything is decoded."""

from __future__ import annotations

import tracemalloc

import msgspec
import numpy as np
import pytest

from tests.server.blob_server import GEOMETRY
from tests.server.conftest import offload
from vitmalis.codec.jpeg import encode_jpeg
from vitmalis.codec.packing import packed_size
from vitmalis.network.wire import messages as m
from vitmalis.server.admission import refusal_reason
from vitmalis.types import Configuration

SIZE = (960, 540)  # 4 x 6 regions of 160 px
MANY = 10**6


def half() -> np.ndarray:
    return np.arange(24).reshape(4, 6) % 2 == 0


def flat_jpeg(width: int, height: int) -> bytes:
    return encode_jpeg(np.zeros((height, width, 3), np.uint8), 50)


PACKED = flat_jpeg(*packed_size(GEOMETRY.grid(*SIZE), half())[::-1])
PLAIN = flat_jpeg(*SIZE)
TWO = Configuration(2, 90, 4)


def test_whole_halved_and_packed_frames_are_admitted() -> None:
    assert refusal_reason(offload(1, SIZE), PLAIN, GEOMETRY, MANY) is None
    assert refusal_reason(offload(1, (480, 270)), flat_jpeg(480, 270), GEOMETRY, MANY) is None
    for point in range(5):
        header = offload(1, SIZE, Configuration(1, 90, point), half())
        assert refusal_reason(header, PACKED, GEOMETRY, MANY) is None
    nothing = offload(1, SIZE, Configuration(0, 90), np.zeros((4, 6), bool))
    assert refusal_reason(nothing, PLAIN, GEOMETRY, MANY) is None


@pytest.mark.parametrize(
    ("header", "jpeg", "words"),
    [
        (
            offload(1, SIZE, geometry=msgspec.structs.replace(GEOMETRY, window=9)),
            PLAIN,
            "regions of window_size 9 and downsampling_factor 2, this model has 5 and 2",
        ),
        (offload(1, SIZE, geometry=msgspec.structs.replace(GEOMETRY, factor=3)), PLAIN, "downsampling_factor 3"),
        (offload(1, SIZE, Configuration(2, 90, 5), half()), PACKED, "restoration point 5, this model has 0 to 4"),
        (offload(1, SIZE, Configuration(0, 90), half()), PACKED, "tau_d 0 downsamples nothing, the mask 12 regions"),
        (offload(1, SIZE, TWO, half()), PLAIN, "JPEG of 960x540, the mask packs a frame of 960x540 into "),
        (offload(1, SIZE, TWO, ~half()[:, ::-1]), flat_jpeg(16, 16), "JPEG of 16x16, the mask packs"),
        (offload(1, SIZE, TWO), PACKED, "announced as 960x540"),
        (offload(1, (2000, 2000)), PLAIN, "frame of 2000x2000, at most 1000000 pixels"),
        (offload(1, SIZE, TWO, half()), b"\xff\xd8\xff\xd9", "JPEG without a frame header"),
    ],
)
def test_refused_by_name(header: m.Offload, jpeg: bytes, words: str) -> None:
    assert words in (refusal_reason(header, jpeg, GEOMETRY, MANY) or "served")


@pytest.mark.parametrize("size", [(8192, 8192), (8192, 1098)])
def test_nothing_of_the_frames_size_is_allocated(size: tuple[int, int]) -> None:
    """A header may announce 200 MB of pixels; refusing it allocates almost nothing."""
    grid = GEOMETRY.grid(*size)
    mask = np.random.default_rng(0).random(grid.shape) < 0.5
    header = offload(1, size, TWO, mask)
    tracemalloc.start()
    assert refusal_reason(header, PACKED, GEOMETRY, 9_000_000) is not None
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 2**20
