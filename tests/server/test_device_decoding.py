"""Decoding on the model's device: the same pixels, the same refusals, and the CPU's decoder where there is no other."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.codec.test_packing import frames
from tests.server.conftest import offload
from vitmalis.codec.jpeg import encode_jpeg
from vitmalis.codec.packing import pack, unpack
from vitmalis.network.wire.messages import Offload
from vitmalis.regions.grid import ModelGeometry, RegionGrid
from vitmalis.server.decoding import decode_offload
from vitmalis.server.device_decoding import DeviceDecoder, device_decoder, unpack_on_device
from vitmalis.types import BoolMask, Configuration, RgbImage

GEOMETRY = ModelGeometry(2, 2, 16, 4)
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
MAX_PIXELS = 10**6
MASK = np.random.default_rng(0).random((3, 4)) < 0.5


@settings(max_examples=30)
@given(frames())
def test_patches_are_those_of_unpack(frame: tuple[RegionGrid, BoolMask, RgbImage]) -> None:
    grid, mask, image = frame
    packed = pack(image, grid, mask)
    found = unpack_on_device(torch.from_numpy(packed).to(DEVICE), grid, mask)
    np.testing.assert_array_equal(found.cpu().numpy(), unpack(packed, grid, mask))


def smooth() -> RgbImage:
    """An image without edges of colour, where all decoders upsample chroma to nearly the same values."""
    y, x = np.mgrid[:150, :250]
    return np.stack([x, y, x // 2 + y // 2], -1).astype(np.uint8)


def offloaded(mask: BoolMask | None) -> tuple[Offload, bytes]:
    image = smooth()
    grid = GEOMETRY.grid(250, 150)
    packed = image if mask is None else pack(image, grid, mask)
    return offload(1, (250, 150), Configuration(2, 90, 2), mask, GEOMETRY), encode_jpeg(packed, 90)


@pytest.mark.parametrize("mask", [None, MASK])
def test_pixels_are_nearly_those_of_the_cpu(mask: BoolMask | None) -> None:
    header, jpeg = offloaded(mask)
    expected = decode_offload(GEOMETRY, header, jpeg, MAX_PIXELS)
    found = DeviceDecoder(DEVICE)(GEOMETRY, header, jpeg, MAX_PIXELS)
    assert isinstance(found.pixels, torch.Tensor)
    assert found.pixels.device.type == DEVICE.type
    difference = np.abs(found.pixels.cpu().numpy().astype(int) - np.asarray(expected.pixels, int))
    assert found.pixels.shape == expected.pixels.shape
    assert np.percentile(difference, 99) <= 3


@settings(max_examples=40)
@given(st.data())
def test_damaged_files_are_refused_as_on_the_cpu(data: st.DataObject) -> None:
    header, jpeg = offloaded(data.draw(st.sampled_from([None, MASK])))
    damaged = bytearray(jpeg)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, 700))] = data.draw(st.integers(0, 255))
    damaged = damaged[: data.draw(st.sampled_from([len(jpeg), len(jpeg) - 2, 100]))]
    errors = []
    for decode in (decode_offload, DeviceDecoder(DEVICE)):
        try:
            decode(GEOMETRY, header, bytes(damaged), MAX_PIXELS)
            errors.append("")
        except ValueError as error:
            errors.append(type(error).__name__)
    assert errors[0] == errors[1]


def test_large_frames_are_refused_before_decoding() -> None:
    header, jpeg = offloaded(None)
    with pytest.raises(ValueError, match="has more than 100 pixels"):
        DeviceDecoder(DEVICE)(GEOMETRY, header, jpeg, 100)


def test_the_cpu_decodes_for_a_model_on_the_cpu(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert device_decoder(torch.device("cpu")) is decode_offload
    assert caplog.messages == ["JPEGs are decoded on the CPU: the model is on the CPU"]
