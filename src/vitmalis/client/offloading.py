"""The realtime client's offloading thread: encodes, sends and receives."""

from __future__ import annotations

import queue
import time
from dataclasses import dataclass

from msgspec import UNSET

from vitmalis.client.events import LinkChanged, OffloadRefused, ResultArrived, StartOffload
from vitmalis.client.header import in_captured_pixels, offload_header
from vitmalis.client.workers import Encoded, Post, Worker
from vitmalis.codec.offload import encode_offload
from vitmalis.errors import UserError
from vitmalis.network.wire import messages
from vitmalis.network.wire.client_endpoint import ClientEndpoint
from vitmalis.network.wire.events import (
    Connected,
    Disconnected,
    Event,
    FailureReceived,
    ResultReceived,
    VersionMismatch,
)
from vitmalis.network.wire.security import ClientKeys
from vitmalis.offload import OffloadOutcome
from vitmalis.regions import ModelGeometry


@dataclass(frozen=True, slots=True, eq=False)
class _Sent:
    """An offload that has been sent."""

    start: StartOffload
    header: messages.Offload
    encoded: Encoded


class OffloadWorker(Worker):
    """Encodes and sends offloads, and reports the answers.

    A server with another geometry or model ends the run with a `UserError`.

    Args:
        address: of the server, or of the relay in front of it.
        geometry: expected of the server's model.
        model_id: expected of the server; empty for any.
        post: takes the reports.
        keys: of this client and of its server; None for a server without keys.
        frame_size: (width, height) of the captured frames, which the server may prepare for; None for no preparation.
    """

    def __init__(
        self,
        address: str,
        geometry: ModelGeometry,
        model_id: str,
        post: Post,
        keys: ClientKeys | None = None,
        frame_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__("offload", post)
        self._address = address
        self._geometry = geometry
        self._model_id = model_id
        self._endpoint = ClientEndpoint(keys=keys, frame_size=frame_size)
        self._starts: queue.SimpleQueue[StartOffload | None] = queue.SimpleQueue()  # None: reconnect
        self._under_way: dict[int, _Sent] = {}

    @property
    def last_error(self) -> str:
        """Why there is no connection."""
        return self._endpoint.last_error

    def submit(self, start: StartOffload) -> None:
        """Encode and send an offload; its end is reported as `ResultArrived` or `OffloadRefused`."""
        self._starts.put(start)
        self._endpoint.wake()

    def reconnect(self) -> None:
        """Close the connection, forget the offloads in flight and connect again: see `Reconnect`."""
        self._starts.put(None)
        self._endpoint.wake()

    def stop(self) -> None:
        """Close the connection and end the thread."""
        self._stopping.set()
        self._endpoint.wake()
        super().stop()

    def work(self) -> None:
        """Send and receive in the one thread that owns the socket."""
        try:
            self._endpoint.connect(self._address)
            while not self._stopping.is_set():
                for event in self._endpoint.poll(timeout_s=1.0):
                    self._on_event(event)
                while not self._starts.empty():
                    self._start(self._starts.get())
        finally:
            self._endpoint.close()

    def _start(self, start: StartOffload | None) -> None:
        if start is not None:
            self._send(start)
            return
        self._under_way.clear()
        self._endpoint.connect(self._address)

    def _send(self, start: StartOffload) -> None:
        height, width = start.frame.image.shape[:2]
        grid = self._geometry.grid(width, height)
        start_s = time.monotonic()
        frame = encode_offload(start.frame.image, start.decision, grid)
        encoded = Encoded(start.offload_id, start_s, time.monotonic() - start_s, len(frame.jpeg))
        header = offload_header(start.offload_id, start.frame, start.decision, self._geometry)
        self._post(encoded)
        if self._endpoint.send_offload(header, frame.jpeg):
            self._under_way[start.offload_id] = _Sent(start, header, encoded)
        else:
            self._post(OffloadRefused(start.offload_id, f"not sent: {self._endpoint.last_error}"))

    def _on_event(self, event: Event) -> None:
        match event:
            case Connected():
                check_server(self._address, event.welcome, self._geometry, self._model_id)
                self._post(LinkChanged(up=True))
            case Disconnected():
                self._under_way.clear()
                self._post(LinkChanged(up=False, reason=event.reason))
            case VersionMismatch():
                raise UserError(str(messages.ProtocolVersionError(event.theirs)))
            case FailureReceived():
                self._under_way.pop(event.seq, None)
                self._post(OffloadRefused(event.seq, event.reason))
            case ResultReceived() if event.result.seq in self._under_way:
                self._post(self._answer(self._under_way.pop(event.result.seq), event))

    def _answer(self, sent: _Sent, received: ResultReceived) -> ResultArrived | OffloadRefused:
        """The result of an offload; one that asks back regions that the frame does not have is none."""
        start, asked = sent.start, received.result.asked
        height, width = start.frame.image.shape[:2]
        mask = None if asked is UNSET else asked.mask
        if mask is not None and mask.shape != (regions := self._geometry.grid(width, height).shape):
            reason = f"the server asked back regions of {mask.shape}, the frame has {regions}"
            return OffloadRefused(start.offload_id, reason)
        detections = in_captured_pixels(received.detections, sent.header, start.frame.image)
        return ResultArrived(start.offload_id, detections, outcome_of(start, sent.encoded, received), mask)


def check_server(address: str, welcome: messages.Welcome, geometry: ModelGeometry, model_id: str) -> None:
    """Check that a server serves the model of a run.

    Args:
        address: of the server.
        welcome: its answer to the handshake.
        geometry: expected of its model.
        model_id: expected of it; empty for any.

    Raises:
        UserError: it serves another model.
    """
    if welcome.geometry != geometry:
        raise UserError(
            f"the server at {address} serves {welcome.model} with {_described(welcome.geometry)}, this "
            f"client expects {_described(geometry)}: configure both alike (model, model.window, "
            "model.downsampling_factor)"
        )
    if model_id and welcome.model_id != model_id:
        raise UserError(
            f"the server at {address} serves {welcome.model} {welcome.model_id}, this run is scored against "
            f"{model_id}: start it with the same model, task, weights and precision"
        )


def _described(geometry: ModelGeometry) -> str:
    return (
        f"window {geometry.window}, downsampling factor {geometry.factor}, patches of {geometry.patch_px} px and "
        f"restoration points up to {geometry.restoration_points}"
    )


def outcome_of(start: StartOffload, encoded: Encoded, received: ResultReceived) -> OffloadOutcome:
    """Compute what an offload cost, from durations alone, since the clocks of client and server need not agree.

    The server measures from the arrival of a tiny announcement to the arrival of the payload after it (`transfer_s`);
    the rest of the time in the network is propagation, both ways.
    """
    result = received.result
    e2e_latency_s = received.received_s - encoded.start_s
    network_s = max(0.0, e2e_latency_s - encoded.encode_s - result.server_s)
    transfer_s = min(result.transfer_s, network_s)
    return OffloadOutcome(
        frame_index=start.frame.index,
        decision=start.decision,
        payload_bytes=encoded.payload_bytes,
        encode_s=encoded.encode_s,
        decode_s=result.decode_s,
        inference_s=result.inference_s,
        transfer_s=transfer_s,
        rtt_s=network_s - transfer_s,
        e2e_latency_s=e2e_latency_s,
        queue_s=result.queue_s,
        tokens_cached=result.cached is True,
    )
