"""The inference thread: every request is answered once whatever raises, and the thread ends only with its model."""

from __future__ import annotations

import queue
import threading
import time

import numpy as np
import pytest

from tests.server.blob_server import BlobDetector
from tests.server.conftest import PATIENCE_S, SIZE, jpeg, next_event, offload
from vitmalis.network.wire import messages as m
from vitmalis.network.wire.client_endpoint import ClientEndpoint
from vitmalis.network.wire.events import Connected, FailureReceived
from vitmalis.server.decoding import batch_key
from vitmalis.server.endpoint import ServerEndpoint
from vitmalis.server.service import Service
from vitmalis.server.worker import Answer, InferenceWorker, Limits, Request
from vitmalis.types import BoolMask, Configuration, Detections, RgbImage


class BreakingDetector(BlobDetector):
    """Works until `broken` is set; from then on every inference fails, as after the loss of a CUDA context."""

    def __init__(self) -> None:
        super().__init__()
        self.broken = False

    def detect(self, image: RgbImage) -> Detections:
        if self.broken:
            raise RuntimeError("the device is lost")
        return super().detect(image)


def request(seq: int, transfer_s: float = 0.1) -> Request:
    return Request(b"peer", offload(seq), jpeg(), transfer_s, time.monotonic())


def test_what_frames_of_a_batch_have_in_common() -> None:
    """Without `batches_any_masks` also their number of patches, which a mask of as many regions elsewhere leaves."""
    detector = BlobDetector()

    def key(mask: BoolMask | None, point: int = 2) -> tuple[int, ...] | None:
        return batch_key(offload(1, configuration=Configuration(1, 95, point), mask=mask), detector)

    left, right, both = (np.zeros(detector.geometry.grid(*SIZE).shape, np.bool_) for _ in range(3))
    left[0, 0] = right[0, 1] = both[0, :2] = True
    assert key(left) == key(right) != key(both)
    detector.batches_any_masks = True
    assert key(left) == key(right) == key(both)
    assert len({key(left), key(left, point=3), key(None)}) == 3


def answer_to(worker: InferenceWorker, answers: queue.SimpleQueue[Answer], sent: Request) -> m.Result | m.Failure:
    assert worker.submit(sent) is None
    answer = answers.get(timeout=PATIENCE_S)
    assert answer.request is sent
    return answer.message


def test_a_request_that_raises_outside_decoding_and_inference_fails_alone() -> None:
    """A transfer of two days is more than a result can say."""
    answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
    worker = InferenceWorker(BlobDetector(), answers.put, Limits())
    worker.start()
    for _ in range(3):
        failure = answer_to(worker, answers, request(1, transfer_s=2 * 86_400.0))
        assert isinstance(failure, m.Failure)
        assert failure.reason.startswith("serving failed: ValueError")
    assert isinstance(answer_to(worker, answers, request(2)), m.Result)
    assert worker.alive
    assert worker.stop(PATIENCE_S)


@pytest.mark.parametrize("error", [MemoryError, KeyError, np.linalg.LinAlgError, RecursionError])
def test_errors_of_any_kind_are_answers(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise error

    answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
    worker = InferenceWorker(BlobDetector(), answers.put, Limits())
    worker.start()
    with monkeypatch.context() as patch:
        patch.setattr("vitmalis.server.worker.pack_detections", fail)
        assert isinstance(answer_to(worker, answers, request(1)), m.Failure)
    assert isinstance(answer_to(worker, answers, request(2)), m.Result)
    assert worker.stop(PATIENCE_S)


def test_a_model_that_no_longer_works_ends_the_service(client: ClientEndpoint) -> None:
    detector = BreakingDetector()
    with ServerEndpoint("tcp://127.0.0.1:0") as endpoint:
        service = Service(endpoint, detector, Limits())
        service.warm_up()
        ended: queue.SimpleQueue[bool] = queue.SimpleQueue()
        thread = threading.Thread(target=lambda: ended.put(service.run()))
        thread.start()
        client.connect(endpoint.address)
        next_event(client, Connected)
        detector.broken = True
        assert client.send_offload(offload(1), jpeg())
        assert ended.get(timeout=PATIENCE_S) is False
        thread.join()
        assert service.close(PATIENCE_S)


def test_an_announcement_of_yesterday_is_refused(client: ClientEndpoint) -> None:
    with ServerEndpoint("tcp://127.0.0.1:0") as endpoint:
        service = Service(endpoint, BlobDetector(), Limits())
        service.warm_up()
        thread = threading.Thread(target=service.run)
        thread.start()
        client.connect(endpoint.address)
        next_event(client, Connected)
        for session in service._sessions.values():
            session.announced_seq, session.announced_s = 1, session.announced_s - 86_401.0
        assert client._send(offload(1), jpeg())
        failure = next_event(client, FailureReceived)
        assert isinstance(failure, FailureReceived)
        assert "s ago, at most 3600 s are taken" in failure.reason
        service.stop()
        thread.join()
        assert service.close(PATIENCE_S)
