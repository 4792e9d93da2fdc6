"""The live view: what the client shows right now, sent to a viewer in another process whenever it asks."""

from __future__ import annotations

import collections
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from vitmalis.client.events import Action, EndOffload, Event, FrameCaptured, Render, ResultArrived, StartOffload
from vitmalis.types import BoolMask, Configuration, Detections, Frame, OffloadStatus

NEXT = b"next"
"""What a viewer sends for the next view; the answer is one encoded `View`, or the end of the connection."""
_POLL_S = 0.2
_LAST_S = 1.0
"""Longest wait, at the end of the run, for a viewer to ask for the last view."""
_KNOWN_LATENCIES = 64


@dataclass(frozen=True, slots=True, eq=False)
class OffloadView:
    """The last offload: the frame, how it was sent, and what came of it.

    Attributes:
        offload_id: its number; two rounds of a frame are two offloads.
        frame_index: the offloaded frame.
        image: the captured frame, RGB uint8 (H, W, 3).
        configuration: c = (tau_d, lambda, beta).
        downsample_mask, frame_downsampling: see `OffloadDecision`.
        unsent_mask: bool (rows, cols), True where no pixels are sent: of regions painted flat, or cached.
        region_types: int8 (rows, cols) of `RegionType`, from a policy that explains its decisions.
        status: how it ended; None while it is in flight.
        payload_bytes, e2e_latency_s: None until its result arrives.
    """

    offload_id: int
    frame_index: int
    image: NDArray[np.uint8]
    configuration: Configuration
    downsample_mask: NDArray[np.bool_] | None
    unsent_mask: NDArray[np.bool_] | None
    frame_downsampling: int
    region_types: NDArray[np.int8] | None
    status: OffloadStatus | None = None
    payload_bytes: int | None = None
    e2e_latency_s: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What the client shows at one moment.

    Attributes:
        image: of the newest frame that is rendered, RGB uint8 (H, W, 3).
        frame_index, detections, source, result_frame_index, shown_frame_index: see `Render`.
        captured: false if the camera lost this frame; `image` is then the one before it.
        latency_s: E2E latency of the result that the boxes stem from; None without one.
        offload: the last one; None before the first.
    """

    image: NDArray[np.uint8]
    frame_index: int
    detections: Detections
    source: str
    result_frame_index: int
    shown_frame_index: int
    captured: bool
    latency_s: float | None
    offload: OffloadView | None


class ViewFeed(threading.Thread):
    """Thread that answers a viewer with the newest view.

    The client pays for one small object a frame: images are neither copied nor encoded before a viewer asks, and then
    in this thread. A viewer that is slow or gone delays nothing.

    Args:
        address: path of the Unix socket on which the viewer listens.

    Raises:
        OSError: no viewer listens there.
    """

    def __init__(self, address: str) -> None:
        super().__init__(name="view", daemon=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as viewer:
            viewer.connect(address)
            self._viewer = Connection(viewer.detach())
        self._frames: collections.deque[Frame] = collections.deque(maxlen=2)  # the next one may be there already
        self._latency_s: dict[int, float] = {}
        self._offload: OffloadView | None = None
        self._newest: View | None = None
        self._changed = threading.Event()
        self._stopping = threading.Event()

    def observe(self, what: Event | Action) -> None:
        """Note an event or action of the client that changes what is shown."""
        match what:
            case FrameCaptured():
                self._frames.append(what.frame)
            case StartOffload():
                self._offload = _started(what)
            case ResultArrived():
                self._answered(what)
            case EndOffload() if self._offload is not None and what.offload_id == self._offload.offload_id:
                self._offload = replace(self._offload, status=what.status)
            case Render():
                self._rendered(what)

    def _answered(self, result: ResultArrived) -> None:
        outcome = result.outcome
        self._latency_s[outcome.frame_index] = outcome.e2e_latency_s
        if len(self._latency_s) > _KNOWN_LATENCIES:
            del self._latency_s[next(iter(self._latency_s))]
        if self._offload is not None and result.offload_id == self._offload.offload_id:
            payload, latency_s = outcome.payload_bytes, outcome.e2e_latency_s
            self._offload = replace(self._offload, payload_bytes=payload, e2e_latency_s=latency_s)

    def _rendered(self, render: Render) -> None:
        shown = [frame for frame in self._frames if frame.index <= render.frame_index]
        if not shown:
            return
        self._newest = View(
            image=shown[-1].image,
            frame_index=render.frame_index,
            detections=render.detections,
            source=str(render.source),
            result_frame_index=render.result_frame_index,
            shown_frame_index=render.shown_frame_index,
            captured=shown[-1].index == render.frame_index,
            latency_s=self._latency_s.get(render.result_frame_index),
            offload=self._offload,
        )
        self._changed.set()

    def run(self) -> None:
        """Answer the viewer until it is gone or the feed is stopped; one that watches also gets the last view."""
        watched = False
        with suppress(OSError, EOFError), self._viewer:  # without a viewer the run goes on
            while not self._stopping.is_set():
                if self._viewer.poll(_POLL_S):
                    watched = True
                    self._viewer.recv_bytes(len(NEXT))
                    self._answer()
            if watched and self._changed.is_set() and self._viewer.poll(_LAST_S):
                self._viewer.recv_bytes(len(NEXT))
                self._answer()

    def _answer(self) -> None:
        """Wait for a view that was not sent yet, and send it."""
        while not self._changed.wait(_POLL_S):
            if self._stopping.is_set():
                return
        self._changed.clear()
        if self._newest is not None:
            self._viewer.send_bytes(encode_view(self._newest))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self.join(timeout=2 * _LAST_S)


def encode_view(view: View) -> bytes:
    """A view as bytes for `decode_view`."""
    return msgspec.msgpack.encode(view, enc_hook=_encode_array)


def decode_view(data: bytes) -> View:
    """The view in bytes of `encode_view`; raises `msgspec.DecodeError` or `ValueError` for other bytes."""
    return msgspec.msgpack.decode(data, type=View, dec_hook=_decode_array)


def _started(start: StartOffload) -> OffloadView:
    decision = start.decision
    explanation = decision.explanation
    return OffloadView(
        offload_id=start.offload_id,
        frame_index=start.frame.index,
        image=start.frame.image,
        configuration=decision.configuration,
        downsample_mask=_as_bool(decision.downsample_mask),
        unsent_mask=_as_bool(decision.cached_mask if decision.blank_mask is None else decision.blank_mask),
        frame_downsampling=decision.frame_downsampling,
        region_types=None if explanation is None else explanation.region_types,
    )


def _as_bool(mask: BoolMask | None) -> BoolMask | None:
    return None if mask is None else np.asarray(mask, bool)


def _encode_array(array: Any) -> tuple[str, tuple[int, ...], bytes]:
    if not isinstance(array, np.ndarray):
        raise NotImplementedError(f"a view holds arrays, no {type(array).__name__}")
    return array.dtype.str, array.shape, array.tobytes()


def _decode_array(_: type, encoded: Any) -> NDArray[Any]:
    dtype, shape, data = encoded
    return np.frombuffer(data, dtype).reshape(shape)
