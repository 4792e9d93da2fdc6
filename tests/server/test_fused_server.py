"""A server on the fused engine: frames sent through a socket, compared with the eager engine on the decoded frames.

On a CPU the backbone is that of `tests.detector.fused.reference_backbone`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from tests.detector.fused.fused_models import small_model
from tests.detector.fused.reference_backbone import ReferenceBackbone, ReferenceWeights
from tests.server.conftest import next_event, offload, served
from vitmalis.codec.jpeg import decode_jpeg
from vitmalis.codec.offload import encode_offload
from vitmalis.codec.packing import unpack
from vitmalis.detector.detector import Detector
from vitmalis.detector.fused import engine
from vitmalis.detector.fused.engine import FusedDetector
from vitmalis.network.wire.client_endpoint import ClientEndpoint
from vitmalis.network.wire.events import Connected, ResultReceived
from vitmalis.offload import OffloadDecision
from vitmalis.server.device_decoding import DeviceDecoder
from vitmalis.server.warm_up import WarmUp
from vitmalis.types import BoolMask, Configuration

SIZE = (190, 150)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
MASK = np.array([[True, False, True], [False, True, False], [False, False, True]])


@pytest.fixture(scope="module")
def server_address() -> Iterator[str]:
    """Decodes on the model's device."""
    with pytest.MonkeyPatch.context() as patched:
        if DEVICE == "cpu":
            patched.setattr(engine, "FusedBackbone", ReferenceBackbone)
            patched.setattr(engine, "FusedWeights", ReferenceWeights)
        detector = FusedDetector(small_model("rcnn"), weights_sha256="0", device=DEVICE)
        with served(detector, decoder=DeviceDecoder(detector.device)) as address:
            yield address


@pytest.mark.parametrize(("mask", "point"), [(None, 0), (MASK, 0), (MASK, 3)])
def test_the_fused_engine_is_served(
    server_address: str, client: ClientEndpoint, mask: BoolMask | None, point: int
) -> None:
    eager = Detector(small_model("rcnn"), weights_sha256="0")
    grid = eager.geometry.grid(*SIZE)
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    image = np.stack([x, y, (x + y) // 2], -1).astype(np.uint8)  # all decoders give nearly the same pixels
    configuration = Configuration(2, 90, point)
    frame = encode_offload(image, OffloadDecision(configuration, mask), grid)
    client.connect(server_address)
    next_event(client, Connected)
    assert client.send_offload(offload(1, SIZE, configuration, mask, eager.geometry), frame.jpeg)
    event = next_event(client, ResultReceived)
    assert isinstance(event, ResultReceived)
    pixels = decode_jpeg(frame.jpeg, image.size)
    if mask is None:
        expected = eager.detect(pixels)
    else:
        expected = eager.detect_patches(unpack(pixels, grid, mask), SIZE[::-1], mask, point)
    assert len(event.detections) == len(expected) > 5
    np.testing.assert_allclose(event.detections.scores, expected.scores, atol=0.02)


def test_a_client_of_a_warmed_up_server_needs_no_new_launches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the welcome there is a launch for plain frames, and two numbers of tokens at five restoration points."""
    if DEVICE == "cpu":
        monkeypatch.setattr(engine, "FusedBackbone", ReferenceBackbone)
        monkeypatch.setattr(engine, "FusedWeights", ReferenceWeights)
    detector, size, mask = (
        FusedDetector(small_model("fcos"), weights_sha256="0", device=DEVICE),
        (128, 64),
        MASK[:1, :2],
    )
    with served(detector) as address, ClientEndpoint("test", frame_size=size) as client:
        client.connect(address)
        next_event(client, Connected)
        prepared = set(detector._graphs._replays)
        assert sum(key[0] == (64, 128) for key in prepared) == 1 + 2 * 5
        for seq, (regions, point) in enumerate([(None, 0), (mask, 0), (mask, 4), (~mask, 1)]):
            _send_and_receive(client, seq, size, regions, point)
        assert set(detector._graphs._replays) == prepared


@pytest.mark.parametrize("warm_up", [WarmUp(), WarmUp((SIZE, (128, 64))), WarmUp(at_hello=False)])
def test_the_eager_engine_serves_with_any_warm_up(warm_up: WarmUp, caplog: pytest.LogCaptureFixture) -> None:
    """It has nothing to prepare: one blank frame before the server is ready, and a welcome without a wait."""
    detector, mask = Detector(small_model("fcos"), weights_sha256="0", device=DEVICE), MASK[:1, :2]
    with (
        caplog.at_level(logging.INFO, "vitmalis.server"),
        served(detector, warm_up=warm_up) as address,
        ClientEndpoint("test", frame_size=(128, 64)) as client,
    ):
        client.connect(address)
        next_event(client, Connected)
        _send_and_receive(client, 1, (128, 64), mask, 2)
    blank = "190x150" if warm_up.sizes else "960x540"
    assert len([text for text in caplog.messages if text.endswith(f" s, at last with a blank frame of {blank}")]) == 1
    assert not any("preparation" in text for text in caplog.messages)


def _send_and_receive(
    client: ClientEndpoint, seq: int, size: tuple[int, int], mask: BoolMask | None, point: int
) -> None:
    geometry, configuration = small_model("fcos").config.geometry, Configuration(2, 90, point)
    image = np.full((size[1], size[0], 3), 90, np.uint8)
    frame = encode_offload(image, OffloadDecision(configuration, mask), geometry.grid(*size))
    assert client.send_offload(offload(seq, size, configuration, mask, geometry), frame.jpeg)
    next_event(client, ResultReceived)
