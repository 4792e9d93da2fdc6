"""Packed frames sent through a socket, compared with the detector on the decoded image."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np
import pytest
import torch

from tests.server.conftest import next_event, offload, served
from vitmalis.codec.jpeg import decode_jpeg
from vitmalis.codec.offload import encode_offload
from vitmalis.codec.packing import pack, unpack
from vitmalis.detector.build import build_model
from vitmalis.detector.config import DetectorConfig, PyramidConfig, preset
from vitmalis.detector.detector import Detector
from vitmalis.detector.mixed import mixed_layout
from vitmalis.errors import UserError
from vitmalis.network.wire.client_endpoint import ClientEndpoint
from vitmalis.network.wire.events import Connected, ResultReceived
from vitmalis.offload import OffloadDecision
from vitmalis.regions import RegionGrid
from vitmalis.types import BoolMask, Configuration, Detections, RgbImage

SIZE = (250, 150)  # regions of 64 px, 3 x 4 of them, the last ones partial


def small_config() -> DetectorConfig:
    base = preset("vitdet_tiny")
    vit = msgspec.structs.replace(
        base.vit, embed_dim=40, depth=8, num_heads=2, subsets=4, window=2, relative_positions=True
    )
    return msgspec.structs.replace(base, vit=vit, pyramid=PyramidConfig(strides=(8, 16, 32), channels=32))


@pytest.fixture(scope="module")
def detector() -> Detector:
    torch.manual_seed(0)
    return Detector(build_model(small_config()), weights_sha256="0")


@pytest.fixture(scope="module")
def server_address(detector: Detector) -> Iterator[str]:
    with served(detector) as address:
        yield address


@pytest.fixture(scope="module")
def image() -> RgbImage:
    return np.random.default_rng(0).integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)


@pytest.fixture(scope="module")
def mask() -> BoolMask:
    return np.random.default_rng(1).random((3, 4)) < 0.5


def rebuilt(patches: np.ndarray, grid: RegionGrid, mask: BoolMask) -> RgbImage:
    """A whole frame made of the patches, those of low resolution enlarged so that their area means are unchanged."""
    layout = mixed_layout(grid, mask, torch.device("cpu"))
    frame = np.empty((grid.padded_height_px, grid.padded_width_px, 3), np.uint8)
    full = len(layout.full.rows)
    for cells, parts, factor in ((layout.full, patches[:full], 1), (layout.low, patches[full:], grid.factor)):
        side = grid.patch_px * factor
        for row, col, patch in zip(cells.rows.tolist(), cells.cols.tolist(), parts, strict=True):
            enlarged = patch.repeat(factor, axis=0).repeat(factor, axis=1)
            frame[row * side : (row + 1) * side, col * side : (col + 1) * side] = enlarged
    return frame[: grid.height_px, : grid.width_px]


def assert_same(ours: Detections, theirs: Detections) -> None:
    assert len(ours) == len(theirs) > 0
    np.testing.assert_allclose(ours.boxes_xyxy, theirs.boxes_xyxy, atol=1e-2)
    np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-4)
    np.testing.assert_array_equal(ours.labels, theirs.labels)


@pytest.mark.parametrize("point", range(5))
def test_patches_detect_the_same_as_the_whole_image(
    detector: Detector, image: RgbImage, mask: BoolMask, point: int
) -> None:
    grid = detector.geometry.grid(*SIZE)
    patches = unpack(pack(image, grid, mask), grid, mask)
    found = detector.detect_patches(patches, SIZE[::-1], mask, point)
    assert_same(found, detector.detect(rebuilt(patches, grid, mask), mask, point))


@pytest.mark.parametrize("point", [0, 2, 4])
def test_a_packed_frame_is_served_as_the_detector_sees_it(
    detector: Detector, server_address: str, client: ClientEndpoint, image: RgbImage, mask: BoolMask, point: int
) -> None:
    configuration = Configuration(2, 90, point)
    grid = detector.geometry.grid(*SIZE)
    frame = encode_offload(image, OffloadDecision(configuration, mask), grid)
    client.connect(server_address)
    connected = next_event(client, Connected)
    assert isinstance(connected, Connected)
    assert connected.welcome.geometry == detector.geometry
    header = offload(1, (frame.width, frame.height), configuration, mask, detector.geometry)
    assert client.send_offload(header, frame.jpeg)
    event = next_event(client, ResultReceived)
    assert isinstance(event, ResultReceived)
    arrived = unpack(decode_jpeg(frame.jpeg, image.size), grid, mask)
    assert_same(event.detections, detector.detect(rebuilt(arrived, grid, mask), mask, point))
    plain = detector.detect(image)
    assert len(plain) != len(event.detections) or not np.allclose(plain.scores, event.detections.scores, atol=1e-4)


def test_patches_that_are_not_the_masks_are_refused(detector: Detector, image: RgbImage, mask: BoolMask) -> None:
    grid = detector.geometry.grid(*SIZE)
    patches = unpack(pack(image, grid, mask), grid, mask)
    with pytest.raises(UserError, match="detector patches must be RGB uint8"):
        detector.detect_patches(patches[1:], SIZE[::-1], mask, 1)
    with pytest.raises(UserError, match="float32"):
        detector.detect_patches(patches.astype(np.float32), SIZE[::-1], mask, 1)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="restoration point 5"):
        detector.detect_patches(patches, SIZE[::-1], mask, 5)
    with pytest.raises(UserError, match="downsample mask"):
        detector.detect_patches(patches, SIZE[::-1], mask[:1], 1)
