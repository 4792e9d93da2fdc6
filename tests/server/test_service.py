"""The service in this process: results, refusals, queues and batches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
import pytest

from tests.server.blob_server import GEOMETRY, BlobDetector
from tests.server.conftest import (
    PATIENCE_S,
    RED_BOX,
    SIZE,
    RawClient,
    jpeg,
    next_event,
    next_events,
    offload,
    running,
    scene,
)
from vitmalis.codec.jpeg import encode_jpeg
from vitmalis.codec.packing import pack
from vitmalis.network.wire import coding
from vitmalis.network.wire import messages as m
from vitmalis.network.wire.client_endpoint import ClientEndpoint
from vitmalis.network.wire.events import Connected, FailureReceived, PongReceived, ResultReceived
from vitmalis.server.endpoint import ServerEndpoint
from vitmalis.server.service import Service
from vitmalis.server.worker import Limits
from vitmalis.types import Configuration


@pytest.fixture
def service() -> Iterator[Service]:
    with ServerEndpoint("tcp://127.0.0.1:0", max_payload_bytes=2**20) as endpoint:
        service = Service(endpoint, BlobDetector(), Limits(max_pixels=1000 * 1000, max_batch=3))
        with running(service):
            yield service


@pytest.fixture
def server_address(service: Service) -> str:
    return service._endpoint.address


@pytest.fixture
def detector(service: Service) -> BlobDetector:
    detector = service._worker._detector
    assert isinstance(detector, BlobDetector)
    return detector


def refusal(client: ClientEndpoint) -> FailureReceived:
    event = next_event(client, FailureReceived)
    assert isinstance(event, FailureReceived)
    return event


def test_serves_boxes_and_durations(connected: ClientEndpoint, service: Service) -> None:
    for seq in range(3):
        assert connected.send_offload(offload(seq), jpeg())
        event = next_event(connected, ResultReceived)
        assert isinstance(event, ResultReceived)
        result = event.result
        assert result.seq == seq
        np.testing.assert_allclose(event.detections.boxes_xyxy, [RED_BOX], atol=1)
        assert event.detections.labels.tolist() == [0]
        assert min(result.decode_s, result.inference_s, result.transfer_s) > 0
        assert result.server_s >= result.queue_s + result.decode_s + result.inference_s
    assert service.counts == {"served": 3}


def test_an_empty_frame_has_an_empty_result(connected: ClientEndpoint) -> None:
    connected.send_offload(offload(1), encode_jpeg(np.full((SIZE[1], SIZE[0], 3), 100, np.uint8), 50))
    event = next_event(connected, ResultReceived)
    assert isinstance(event, ResultReceived)
    assert len(event.detections) == 0


def test_ping(connected: ClientEndpoint) -> None:
    connected.ping(77)
    event = next_event(connected, PongReceived)
    assert isinstance(event, PongReceived)
    assert event.nonce == 77


@pytest.mark.parametrize(
    ("header", "payload", "words"),
    [
        (offload(5), b"hello", "not a JPEG"),
        (offload(5), jpeg()[:500], "truncated JPEG"),
        (offload(5), jpeg()[:500] + b"\xff\xd9\xff\xd9", None),  # may decode to a partly grey image, or not
        (offload(5), jpeg((64, 64)), "JPEG of 64x64, announced as 320x192"),
        (offload(5, (8192, 8192)), jpeg(), "8192x8192, at most 1000000 pixels"),
        (offload(5), b"x" * (2**20 + 1), "payload of 1048577 bytes"),
        (offload(5, configuration=Configuration(1, 75, 5)), jpeg(), "restoration point 5, this model has 0 to 4"),
        (offload(5), encode_jpeg(np.full((SIZE[1], SIZE[0], 3), (0, 200, 0), np.uint8), 50), "green is not supported"),
    ],
)
def test_refuses_by_number_and_serves_on(
    connected: ClientEndpoint, header: m.Offload, payload: bytes, words: str | None
) -> None:
    connected.send_offload(header, payload)
    if words is None:
        (event,) = connected.poll(PATIENCE_S)
        assert isinstance(event, ResultReceived | FailureReceived)
    else:
        failure = refusal(connected)
        assert failure.seq == 5
        assert words in failure.reason
    connected.send_offload(offload(6), jpeg())
    next_event(connected, ResultReceived)


def test_a_mask_is_served_in_pixels_of_the_frame(connected: ClientEndpoint) -> None:
    """320 x 192 pixels are 2 x 2 regions of 160 px, those below 32 px high."""
    mask = np.zeros((2, 2), bool)
    connected.send_offload(offload(1, configuration=Configuration(2, 90), mask=mask), jpeg())  # nothing is low
    next_event(connected, ResultReceived)
    mask[0, 1] = True
    packed = encode_jpeg(pack(scene(), GEOMETRY.grid(*SIZE), mask), 90)
    connected.send_offload(offload(2, configuration=Configuration(2, 90, 4), mask=mask), packed)
    event = next_event(connected, ResultReceived)
    assert isinstance(event, ResultReceived)
    assert event.detections.boxes_xyxy.tolist() == [[0, 0, *SIZE]]
    connected.send_offload(offload(3, configuration=Configuration(2, 90, 4), mask=mask), jpeg())
    assert "the mask packs a frame of 320x192 into" in refusal(connected).reason


def test_a_smaller_frame_is_like_any_other(connected: ClientEndpoint) -> None:
    connected.send_offload(offload(1, (160, 96)), encode_jpeg(scene()[::2, ::2], 95))
    event = next_event(connected, ResultReceived)
    assert isinstance(event, ResultReceived)
    np.testing.assert_allclose(event.detections.boxes_xyxy, np.array([RED_BOX]) / 2, atol=1)


def test_a_sequence_number_counts_once(connected: ClientEndpoint, service: Service) -> None:
    connected.send_offload(offload(5), jpeg())
    next_event(connected, ResultReceived)
    for seq in (5, 4):
        connected.send_offload(offload(seq), jpeg())
        failure = refusal(connected)
        assert failure.seq == seq
        assert "used before (last 5)" in failure.reason
    assert service.counts == {"served": 1, "refused": 2}


def test_an_offload_needs_a_hello_and_an_announcement(server_address: str) -> None:
    with RawClient(server_address) as raw:
        raw.send(*coding.encode(offload(3), jpeg()))
        assert raw.receive() == m.Failure(3, m.NO_SESSION)
        raw.send(*coding.encode(m.Ping(1)))
        assert raw.receive() == m.Failure(m.NO_SEQ, m.NO_SESSION)
        raw.send(*coding.encode(m.Hello("raw")))
        assert isinstance(raw.receive(), m.Welcome)
        raw.send(*coding.encode(offload(4), jpeg()))
        assert raw.receive() == m.Failure(4, "offload 4 was not announced")


def test_beyond_its_queue_the_server_says_busy(
    connected: ClientEndpoint, detector: BlobDetector, service: Service
) -> None:
    detector.gate.clear()
    detector.entered.clear()
    connected.send_offload(offload(0), jpeg())
    assert detector.entered.wait(PATIENCE_S)
    for seq in range(1, 6):  # two of them may wait
        while not connected.send_offload(offload(seq), jpeg()):
            assert connected.poll(0.01) == []
        if seq > 2:
            failure = refusal(connected)
            assert (failure.seq, failure.reason.split(":")[0]) == (seq, "busy")
    detector.gate.set()
    results = [event.result.seq for event in next_events(connected, 3) if isinstance(event, ResultReceived)]
    assert results == [0, 1, 2]
    assert service.counts == {"busy": 3, "served": 3}


def test_frames_of_several_clients_are_inferred_together_where_they_are_alike(
    server_address: str, detector: BlobDetector, service: Service
) -> None:
    mask = np.zeros(GEOMETRY.grid(*SIZE).shape, bool)
    mask[0, 0] = True
    packed = encode_jpeg(pack(scene(), GEOMETRY.grid(*SIZE), mask), 95)
    mixed = offload(1, configuration=Configuration(1, 95, 2), mask=mask)
    frames = [(offload(1), jpeg()), (offload(1), jpeg()), (mixed, packed), (offload(1), jpeg()), (offload(1), jpeg())]
    detector.gate.clear()
    clients = [ClientEndpoint(f"client {number}") for number in range(len(frames))]
    try:
        for client, (header, payload) in zip(clients, frames, strict=True):
            client.connect(server_address)
            next_event(client, Connected)
            detector.entered.clear()
            assert client.send_offload(header, payload)
            assert client.poll(0.05) == []
            if client is clients[0]:
                assert detector.entered.wait(PATIENCE_S)  # alone: no other client had offloaded
        detector.gate.set()
        for client, (header, _) in zip(clients, frames, strict=True):
            event = next_event(client, ResultReceived)
            assert isinstance(event, ResultReceived)
            expected = RED_BOX if header.downsample_mask is None else (0, 0, *SIZE)
            np.testing.assert_allclose(event.detections.boxes_xyxy, [expected], atol=1)
    finally:
        for client in clients:
            client.close()
    assert detector.batches == [3]  # the mixed-resolution frame waits for its turn
    assert service.counts == {"served": 5}


def blank(red: int, green: int, blue: int) -> bytes:
    return encode_jpeg(np.full((SIZE[1], SIZE[0], 3), (red, green, blue), np.uint8), 90)


@pytest.fixture
def batch_of_three(server_address: str, detector: BlobDetector) -> Iterator[list[ClientEndpoint]]:
    """Three clients whose offloads are inferred as one batch (red, blue, red) once the gate opens."""
    first, *clients = (ClientEndpoint(f"client {number}") for number in range(4))
    with ExitStack() as stack:
        for client in (first, *clients):
            stack.enter_context(client)
            client.connect(server_address)
            next_event(client, Connected)
        detector.gate.clear()
        detector.entered.clear()
        first.send_offload(offload(1), jpeg())
        assert detector.entered.wait(PATIENCE_S)  # the worker is busy: what comes now waits and is taken together
        for client, payload in zip(clients, (jpeg(), blank(0, 0, 200), jpeg()), strict=True):
            client.send_offload(offload(1), payload)
            client.ping(1)  # answered by the receiving thread, after the offload was queued
            next_event(client, PongReceived)
        yield clients


def only_answer(client: ClientEndpoint) -> ResultReceived | FailureReceived:
    """The answer to an offload, after which the next thing that arrives is the answer to a later ping."""
    answer = next_events(client, 1)[0]
    client.ping(2)
    next_event(client, PongReceived)
    assert isinstance(answer, ResultReceived | FailureReceived), answer
    return answer


def test_each_client_of_a_batch_gets_one_answer_when_one_of_them_cannot_be_packed(
    batch_of_three: list[ClientEndpoint], detector: BlobDetector, service: Service
) -> None:
    detector.gate.set()
    before, failed, after = map(only_answer, batch_of_three)
    assert isinstance(failed, FailureReceived)
    assert failed.reason == "inference failed: ProtocolError: scores outside 0..1"
    for answer in (before, after):
        assert isinstance(answer, ResultReceived)
        np.testing.assert_allclose(answer.detections.boxes_xyxy, [RED_BOX], atol=1)
    assert detector.batches == [3]
    assert service.counts == {"served": 3, "failed": 1}


def test_a_detector_that_forgets_a_frame_of_a_batch_fails_all_of_it_once(
    batch_of_three: list[ClientEndpoint], detector: BlobDetector, service: Service
) -> None:
    detector.forgets_last = True
    detector.gate.set()
    for client in batch_of_three:
        answer = only_answer(client)
        assert isinstance(answer, FailureReceived)
        assert answer.reason == "inference failed: RuntimeError: the detector answered 2 of 3 frames"
    assert service.counts == {"served": 1, "failed": 3}


def test_clients_do_not_share_state(connected: ClientEndpoint, server_address: str) -> None:
    connected.send_offload(offload(5), jpeg())
    next_event(connected, ResultReceived)
    with ClientEndpoint("another") as other:
        other.connect(server_address)
        next_event(other, Connected)
        other.send_offload(offload(5), jpeg())
        next_event(other, ResultReceived)


def test_malformed_messages_are_counted_and_an_honest_client_is_served(
    server_address: str, client: ClientEndpoint, service: Service
) -> None:
    rng = np.random.default_rng(0)
    with RawClient(server_address) as raw:
        for size in range(200):
            raw.send(b"VM\x02" + rng.bytes(size), rng.bytes(size))
            answer = raw.receive()
            assert isinstance(answer, m.Failure)
        raw.send(b"VM\x07")
        answer = raw.receive()
        assert isinstance(answer, m.Failure)
        assert "the peer speaks protocol 7, this side 2" in answer.reason
    client.connect(server_address)
    next_event(client, Connected)
    client.send_offload(offload(1), jpeg())
    next_event(client, ResultReceived)
    assert service.counts == {"malformed": 201, "served": 1}
