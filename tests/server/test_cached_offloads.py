"""Offloads with cached regions over a real socket: a server keeps a client's tokens, and says when it has lost them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import numpy as np
import pytest
import torch

from tests.server.conftest import next_event, served
from vitmalis.client.header import offload_header
from vitmalis.codec.jpeg import decode_jpeg
from vitmalis.codec.offload import encode_offload
from vitmalis.codec.packing import unpack
from vitmalis.detector.build import build_model
from vitmalis.detector.config import DetectorConfig, PyramidConfig, preset
from vitmalis.detector.detector import Detector
from vitmalis.network.wire.client_endpoint import ClientEndpoint
from vitmalis.network.wire.events import Connected, FailureReceived, ResultReceived
from vitmalis.offload import OffloadDecision, TokenCaching
from vitmalis.regions import RegionGrid, Treatment
from vitmalis.server.decoding import DecodedFrame
from vitmalis.server.token_cache import TokenCache, TokensLost
from vitmalis.server.worker import Limits
from vitmalis.types import Configuration, Detections, Frame, RgbImage

SIZE = (250, 150)  # regions of 64 px, 3 x 4 of them, the last ones partial
POINT = 2
CACHED = np.array([[1, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1]], bool)
LOW = np.array([[0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]], bool)
MOVED = np.where(CACHED[:, :, None], np.array([1, -2], np.int8), np.int8(0))


def small_config() -> DetectorConfig:
    base = preset("vitdet_tiny")
    vit = msgspec.structs.replace(base.vit, embed_dim=40, depth=8, num_heads=2, window=2)
    return msgspec.structs.replace(base, vit=vit, pyramid=PyramidConfig(strides=(8, 16, 32), channels=32))


@pytest.fixture(scope="module")
def detector() -> Detector:
    torch.manual_seed(0)
    return Detector(build_model(small_config()), weights_sha256="0")


@contextmanager
def connected(address: str) -> Iterator[ClientEndpoint]:
    client = ClientEndpoint()
    try:
        client.connect(address)
        next_event(client, Connected)
        yield client
    finally:
        client.close()


@pytest.fixture(scope="module")
def images() -> tuple[RgbImage, RgbImage]:
    draws = np.random.default_rng(0)
    first, second = (draws.integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8) for _ in range(2))
    return first, second


def decided(caching: TokenCaching | None, low: np.ndarray | None = None) -> OffloadDecision:
    return OffloadDecision(Configuration(2 if low is not None else 0, 90, POINT), low, caching=caching)


def send(
    client: ClientEndpoint, detector: Detector, seq: int, image: RgbImage, decision: OffloadDecision
) -> ResultReceived | FailureReceived:
    grid = detector.config.region_grid(SIZE[1], SIZE[0])
    header = offload_header(seq, Frame(seq, 0.0, image), decision, detector.geometry)
    assert client.send_offload(header, encode_offload(image, decision, grid).jpeg)
    return next_event(client, (ResultReceived, FailureReceived))


def expected(detector: Detector, grid: RegionGrid, images: tuple[RgbImage, RgbImage]) -> Detections:
    """The model on the decoded frames: the first whole, of the second one region full and one low."""
    treatments = np.where(CACHED, np.int8(Treatment.CACHED), LOW.astype(np.int8))
    first, second = (
        decode_jpeg(encode_offload(image, decision, grid).jpeg, 10**6)
        for image, decision in zip(images, (decided(None), decided(TokenCaching(0, CACHED), LOW)), strict=True)
    )
    size = SIZE[1], SIZE[0]
    _, tokens = detector.detect_cached(first, size, None, POINT)
    patches = unpack(second, grid, treatments)
    return detector.detect_cached(patches, size, treatments, POINT, tokens.moved(MOVED))[0]


def test_cached_regions_come_from_the_frame_that_the_client_names(
    detector: Detector, images: tuple[RgbImage, RgbImage]
) -> None:
    with served(detector) as address, connected(address) as client:
        whole = send(client, detector, 0, images[0], decided(TokenCaching()))
        assert isinstance(whole, ResultReceived)
        assert whole.result.cached is True
        found = send(client, detector, 1, images[1], decided(TokenCaching(0, CACHED, MOVED), LOW))
        assert isinstance(found, ResultReceived)
        ours = expected(detector, detector.config.region_grid(SIZE[1], SIZE[0]), images)
        assert len(found.detections) == len(ours) > 0
        np.testing.assert_allclose(found.detections.boxes_xyxy, ours.boxes_xyxy, atol=1e-2)
        np.testing.assert_allclose(found.detections.scores, ours.scores, atol=1e-4)
        plain = send(client, detector, 2, images[0], decided(None))
        assert isinstance(plain, ResultReceived)
        assert plain.result.cached is msgspec.UNSET


def test_lost_tokens_are_reported_and_a_whole_frame_caches_again(
    detector: Detector, images: tuple[RgbImage, RgbImage]
) -> None:
    """Tokens of a third last offload, of another connection, and of another client are not there."""
    image, whole = images[0], decided(TokenCaching())
    from_first = decided(TokenCaching(0, CACHED))
    with served(detector) as address:
        with connected(address) as client, connected(address) as other:
            for seq in range(3):
                assert isinstance(send(client, detector, seq, image, whole), ResultReceived)
            lost = send(client, detector, 3, image, from_first)
            assert isinstance(lost, FailureReceived)
            assert lost.reason == "no cached tokens of offload 0: offload a frame without cached regions"
            assert isinstance(send(client, detector, 4, image, decided(TokenCaching(2, CACHED))), ResultReceived)
            assert isinstance(send(other, detector, 3, image, decided(TokenCaching(2, CACHED))), FailureReceived)
        with connected(address) as client:
            assert isinstance(send(client, detector, 5, image, decided(TokenCaching(4, CACHED))), FailureReceived)
            assert isinstance(send(client, detector, 6, image, whole), ResultReceived)
            assert isinstance(send(client, detector, 7, image, decided(TokenCaching(6, CACHED))), ResultReceived)


def test_a_server_without_room_says_that_nothing_is_cached(
    detector: Detector, images: tuple[RgbImage, RgbImage]
) -> None:
    with served(detector, limits=Limits(max_cached_bytes=1000)) as address, connected(address) as client:
        answer = send(client, detector, 0, images[0], decided(TokenCaching()))
        assert isinstance(answer, ResultReceived)
        assert answer.result.cached is False
        assert isinstance(send(client, detector, 1, images[0], decided(TokenCaching(0, CACHED))), FailureReceived)


@pytest.mark.parametrize(
    ("size", "point", "reason"),
    [
        (SIZE, 3, "cached tokens of a 250x150 frame at restoration point 2 do not fit a 250x150 frame at 3"),
        ((250, 140), 2, "cached tokens of a 250x150 frame at restoration point 2 do not fit a 250x140 frame at 2"),
        ((400, 300), 2, "do not fit a 400x300 frame at 2"),
    ],
)
def test_tokens_of_another_kind_of_frame_are_refused_before_inference(
    size: tuple[int, int], point: int, reason: str, detector: Detector, images: tuple[RgbImage, RgbImage]
) -> None:
    header = offload_header(0, Frame(0, 0.0, images[0]), decided(TokenCaching()), detector.geometry)
    whole = DecodedFrame(header, None, images[0])
    cache = TokenCache()
    cache.open(b"a")
    assert cache.infer(detector, b"a", whole)[1]
    image = np.zeros((size[1], size[0], 3), np.uint8)
    some = np.zeros(detector.geometry.grid(*size).shape, bool)
    some[0, 0] = True
    decision = OffloadDecision(Configuration(0, 90, point), caching=TokenCaching(0, some))
    other = offload_header(1, Frame(1, 0.1, image), decision, detector.geometry)
    with pytest.raises(TokensLost, match=reason):
        cache.check(b"a", other, detector.geometry)


def test_an_offload_that_is_served_after_its_client_has_ended_leaves_no_tokens(
    detector: Detector, images: tuple[RgbImage, RgbImage]
) -> None:
    header = offload_header(0, Frame(0, 0.0, images[0]), decided(TokenCaching()), detector.geometry)
    cache = TokenCache()
    cache.open(b"a")
    cache.forget(b"a")
    found, cached = cache.infer(detector, b"a", DecodedFrame(header, None, images[0]))
    assert len(found) > 0
    assert not cached
    again = offload_header(1, Frame(1, 0.1, images[1]), decided(TokenCaching(0, CACHED)), detector.geometry)
    with pytest.raises(TokensLost, match="no cached tokens of offload 0"):
        cache.check(b"a", again, detector.geometry)
