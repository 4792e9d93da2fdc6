"""What a server prepares before it is ready, and before it welcomes a client; clients are served meanwhile."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable

import pytest

from tests.server.blob_server import BlobDetector
from tests.server.conftest import PATIENCE_S, SIZE, jpeg, next_event, offload, served
from vitmalis.errors import UserError
from vitmalis.network.wire.client_endpoint import ClientEndpoint
from vitmalis.network.wire.events import Connected, ResultReceived
from vitmalis.server.__main__ import build_parser
from vitmalis.server.serving import warm_up
from vitmalis.server.warm_up import MAX_ASKED_SIZES, FrameSize, WaitingClients, WarmUp
from vitmalis.server.worker import Answer, InferenceWorker, Limits, Request
from vitmalis.types import Detections, RgbImage

OTHER_SIZE = (160, 96)
OFF = WarmUp(at_hello=False)


class PreparingBlob(BlobDetector):
    """Prepares for a frame size in three steps.

    Attributes:
        log: what was done, in order.
        step_begins: set by each step; it then waits while `step_gate` is cleared.
        fails: whether steps raise.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log: list[str] = []
        self.step_begins, self.step_gate = threading.Event(), threading.Event()
        self.step_gate.set()
        self.fails = False

    def detect(self, image: RgbImage) -> Detections:
        self.log.append(f"detect {image.shape[1]}x{image.shape[0]}")
        return super().detect(image)

    def preparations(self, image_size: tuple[int, int], max_batch: int) -> list[Callable[[], None]]:
        height, width = image_size
        self.log.append(f"prepare {width}x{height} for {max_batch}")
        return [lambda number=number: self._step(number) for number in (1, 2, 3)]

    def _step(self, number: int) -> None:
        self.step_begins.set()
        assert self.step_gate.wait(PATIENCE_S)
        self.log.append(f"step {number}")
        if self.fails:
            raise RuntimeError("out of memory")


def started(detector: BlobDetector, warm_up: WarmUp) -> None:
    worker = InferenceWorker(detector, lambda _: None, Limits(max_batch=4), warm_up=warm_up)
    worker.start()
    assert worker.alive
    assert worker.stop(PATIENCE_S)


def test_configured_sizes_are_prepared_for_before_the_server_is_ready(caplog: pytest.LogCaptureFixture) -> None:
    detector, steps = PreparingBlob(), ["step 1", "step 2", "step 3"]
    with caplog.at_level(logging.INFO):
        started(detector, WarmUp((SIZE, OTHER_SIZE)))
    ends = ["prepare 320x192 for 4", *steps, "prepare 160x96 for 4", *steps, "detect 320x192"]
    assert detector.log == ends
    said = [message.partition(" in ")[0] for message in caplog.messages]
    assert said == [
        "the preparation for frames of 320x192 is done: 3 of 3 steps",
        "the preparation for frames of 160x96 is done: 3 of 3 steps",
        "warmed up",
    ]
    assert caplog.messages[-1].endswith(" s, at last with a blank frame of 320x192")


def test_a_preparation_ends_at_its_limit(caplog: pytest.LogCaptureFixture) -> None:
    detector = PreparingBlob()
    with caplog.at_level(logging.INFO):
        started(detector, WarmUp((SIZE,), limit_s=0.0))
    assert detector.log == ["prepare 320x192 for 4", "detect 320x192"]
    assert caplog.messages[0].startswith(
        "the preparation for frames of 320x192 has reached its limit of 0 s (--warm-up-s): 0 of 3 steps in "
    )


def test_a_step_that_fails_ends_the_preparation_and_not_the_server(caplog: pytest.LogCaptureFixture) -> None:
    detector = PreparingBlob()
    detector.fails = True
    started(detector, WarmUp((SIZE,)))
    assert detector.log == ["prepare 320x192 for 4", "step 1", "detect 320x192", "detect 320x192"]
    assert caplog.messages[0].startswith("the preparation for frames of 320x192 ended early, after 0 of 3 steps in ")


@pytest.mark.parametrize(("warm_up", "size"), [(WarmUp((SIZE,)), SIZE), (WarmUp(), (960, 540)), (OFF, (960, 540))])
def test_a_detector_that_prepares_nothing_infers_one_blank_frame(warm_up: WarmUp, size: FrameSize) -> None:
    class LoggingBlob(BlobDetector):
        def detect(self, image: RgbImage) -> Detections:
            shapes.append(image.shape)
            return super().detect(image)

    shapes: list[tuple[int, ...]] = []
    started(LoggingBlob(), warm_up)
    assert shapes == [(size[1], size[0], 3)]


def test_a_client_is_welcomed_once_its_frames_are_prepared_for() -> None:
    """Another one that does not say how large its frames are is welcomed meanwhile."""
    detector = PreparingBlob()
    detector.step_gate.clear()
    with (
        served(detector) as address,
        ClientEndpoint("first", frame_size=SIZE) as first,
        ClientEndpoint("second") as second,
        ClientEndpoint("third", frame_size=SIZE) as third,
    ):
        first.connect(address)
        assert detector.step_begins.wait(PATIENCE_S)
        third.connect(address)
        second.connect(address)
        next_event(second, Connected)
        assert first.poll(0.0) == third.poll(0.0) == []
        detector.step_gate.set()
        for client in (first, third):
            next_event(client, Connected)
            assert detector.log[1:] == ["prepare 320x192 for 1", "step 1", "step 2", "step 3"]
        assert first.send_offload(offload(1), jpeg())
        next_event(first, ResultReceived)
        with ClientEndpoint("fourth", frame_size=SIZE) as fourth:
            fourth.connect(address)
            next_event(fourth, Connected)
    assert detector.log.count("step 1") == 1


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"warm_up": OFF}, SIZE),
        ({"warm_up": WarmUp((SIZE,))}, SIZE),
        ({"limits": Limits(max_pixels=319 * 192)}, SIZE),
    ],
)
def test_a_client_is_welcomed_at_once_where_nothing_is_left_to_prepare(options: dict, size: FrameSize) -> None:
    """Off; prepared for before; larger than frames that are served."""
    detector = PreparingBlob()
    with served(detector, **options) as address, ClientEndpoint("test", frame_size=size) as client:
        before = detector.log.copy()
        client.connect(address)
        next_event(client, Connected)
        assert detector.log == before


def test_a_client_is_welcomed_although_its_preparation_fails() -> None:
    detector = PreparingBlob()
    detector.fails = True
    with served(detector) as address, ClientEndpoint("test", frame_size=SIZE) as client:
        client.connect(address)
        next_event(client, Connected)
        assert client.send_offload(offload(1), jpeg())
        next_event(client, ResultReceived)
    assert "step 2" not in detector.log


def test_requests_are_served_between_the_steps_of_a_preparation() -> None:
    """A step counts as two frames of its size: the request that came during the first one is next."""
    detector, done = PreparingBlob(), threading.Event()
    answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
    worker = InferenceWorker(detector, answers.put, Limits(), on_prepared=lambda _: done.set())
    worker.start()
    detector.log.clear()
    detector.step_gate.clear()
    assert worker.prepare(SIZE)
    assert detector.step_begins.wait(PATIENCE_S)
    assert worker.submit(Request(b"peer", offload(1), jpeg(), 0.1, time.monotonic())) is None
    detector.step_gate.set()
    assert done.wait(PATIENCE_S)
    assert detector.log == ["prepare 320x192 for 1", "step 1", "detect 320x192", "step 2", "step 3"]
    assert worker.stop(PATIENCE_S)


def test_few_sizes_are_prepared_for_because_clients_ask() -> None:
    clients, asked = WaitingClients([(960, 540)]), []

    def prepare(size: FrameSize) -> bool:
        asked.append(size)
        return size[0] % 2 == 0

    assert not clients.wait(b"a", (960, 540), prepare)
    assert clients.wait(b"a", (16, 16), prepare)
    assert clients.wait(b"b", (16, 16), prepare)
    assert [clients.wait(b"c", (17, 16), prepare) for _ in range(2)] == [False, False]
    assert [clients.wait(b"d", (side, 16), prepare) for side in (18, 20, 22)] == [True, True, False]
    assert len(asked) == MAX_ASKED_SIZES == 4
    clients.forget(b"b")
    assert clients.release((16, 16)) == {b"a"}
    assert not clients.wait(b"e", (16, 16), prepare)
    assert len(asked) == 4


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], WarmUp()),
        (["--warm-up=off"], WarmUp(at_hello=False)),
        (["--warm-up=clients", "--warm-up-s=5"], WarmUp(limit_s=5.0)),
        (["--warm-up=1280x720,960x540,1280x720"], WarmUp(((1280, 720), (960, 540)))),
    ],
)
def test_the_command_line(arguments: list[str], expected: WarmUp) -> None:
    assert warm_up(build_parser().parse_args(arguments), 1280 * 720) == expected


def test_mistakes_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("1280", "8x540", "1280x720,", "12800x16"):
        with pytest.raises(SystemExit) as ended:
            build_parser().parse_args([f"--warm-up={text}"])
        assert ended.value.code == 2
        assert f"'{text}' is no frame size: give clients, off, or sizes of 16 to 8192 px" in capsys.readouterr().err
    args = build_parser().parse_args(["--warm-up=960x540,1280x720"])
    with pytest.raises(UserError, match=r"^--warm-up 1280x720: at most 518400 pixels are served; .* --max-megapixels$"):
        warm_up(args, 960 * 540)
