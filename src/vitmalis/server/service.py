"""The server's receiving thread: sessions, admission of offloads, and answers."""

from __future__ import annotations

import logging
import queue
import time
from collections import Counter
from dataclasses import dataclass

import msgspec
from msgspec import UNSET

from vitmalis.network.wire import messages as m
from vitmalis.network.wire.peer_log import LogLimit, quoted
from vitmalis.server.admission import refusal_reason
from vitmalis.server.decoding import Decoder, decode_offload
from vitmalis.server.endpoint import Closed, Received, ServerEndpoint
from vitmalis.server.memory import MemoryGuard
from vitmalis.server.warm_up import FrameSize, WaitingClients, WarmUp
from vitmalis.server.worker import Answer, DetectorLike, InferenceWorker, Limits, Request

_log = logging.getLogger(__name__)
_POLL_S = 0.25
_MEMORY_CHECKS = 10  # that may find too much, a second apart, before the service ends
_MAX_UPLOAD_S = 3600.0


@dataclass(slots=True)
class Session:
    """State of one connection, from its `Hello` to its end; a client that reconnects gets a new session."""

    client_id: str
    last_seq: int = m.NO_SEQ
    announced_seq: int = m.NO_SEQ
    announced_s: float = 0.0


class Service:
    """Serves detections to the clients of an endpoint until `stop`.

    Args:
        endpoint: a bound endpoint; its creator closes it.
        detector: the served model.
        limits: bounds on load and memory.
        decoder: of the payloads of offloads.
        warm_up: what the detector prepares for, see `WarmUp`.

    Raises:
        ValueError: the geometry of the model is outside the bounds of the wire protocol.

    Attributes:
        counts: number of events by kind (served, failed, refused, malformed, busy, unreachable, flooded, errors).
    """

    def __init__(
        self,
        endpoint: ServerEndpoint,
        detector: DetectorLike,
        limits: Limits = Limits(),  # noqa: B008
        decoder: Decoder = decode_offload,
        warm_up: WarmUp = WarmUp(),  # noqa: B008
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._endpoint = endpoint
        self._welcome = m.Welcome(detector.name, detector.model_id, detector.geometry)
        self._answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._prepared: queue.SimpleQueue[FrameSize] = queue.SimpleQueue()
        self._worker = InferenceWorker(
            detector, self._enqueue_answer, limits, decoder, warm_up, on_prepared=self._enqueue_prepared
        )
        self._waiting = WaitingClients(warm_up.sizes)
        self._limits = limits
        self._memory = MemoryGuard(limits.max_growth_bytes)
        self._memory_checks = 0
        self._sessions: dict[bytes, Session] = {}
        self._log_limit = LogLimit()
        self._stopping = False

    def warm_up(self) -> None:
        """Start the worker and have it warm up, so that the first offloads are not slower than others."""
        self._worker.start()
        self._memory.set_zero()

    def run(self) -> bool:
        """Serve clients until `stop` is called.

        Returns:
            False if it cannot go on: the inference thread has ended, or memory does not fall.
        """
        while not self._stopping:
            for event in self._endpoint.poll(_POLL_S):
                self._on_event(event)
            worker_alive = self._worker.alive  # asked first, so that its last answers are sent
            self._send_answers()
            self._welcome_prepared()
            if not worker_alive:
                _log.error("the inference thread has ended, so nothing can be served any more")
                return False
            if not self._memory_kept():
                _log.error("memory does not fall although all connections are closed")
                return False
        return True

    def _on_event(self, event: Received | Closed) -> None:
        """Handle one event; an error here ends its connection and nothing else."""
        if isinstance(event, Closed):
            self._sessions.pop(event.peer, None)
            self._waiting.forget(event.peer)
            self._worker.forget(event.peer)
            return
        try:
            self._handle(event)
        except Exception:
            self.counts["errors"] += 1
            if self._log_limit.allows("errors"):
                _log.exception("a message could not be handled")
            self._endpoint.disconnect(event.peer)

    def stop(self) -> None:
        """End `run`; safe from any thread and in a signal handler."""
        self._stopping = True
        self._endpoint.wake()

    def close(self, timeout_s: float = 2.0) -> bool:
        """Stop the worker; False when its running inference did not end in time."""
        self._memory.close()
        return self._worker.stop(timeout_s)

    def _enqueue_answer(self, answer: Answer) -> None:
        self._answers.put(answer)
        self._endpoint.wake()

    def _enqueue_prepared(self, size: FrameSize) -> None:
        self._prepared.put(size)
        self._endpoint.wake()

    def _welcome_prepared(self) -> None:
        """Welcome the clients whose frames the detector is prepared for now."""
        while not self._prepared.empty():
            for peer in self._waiting.release(self._prepared.get()):
                self._send(peer, self._welcome)

    def _send_answers(self) -> None:
        while not self._answers.empty():
            answer = self._answers.get()
            message = answer.message
            if isinstance(message, m.Result):
                server_s = time.monotonic() - answer.request.received_s
                self.counts["served"] += 1
                self._send(answer.request.peer, msgspec.structs.replace(message, server_s=server_s), answer.payload)
            else:
                self._refuse(answer.request.peer, message.seq, message.reason, "failed")

    def _memory_kept(self) -> bool:
        """Close connections if there is too much memory, the one that holds most first; False if that does not help.

        Honest clients connect again.
        """
        exceeded = self._memory.exceeded()
        if exceeded is None:
            return True
        self._memory_checks = self._memory_checks + 1 if exceeded else 0
        if exceeded:
            self.counts["flooded"] += 1
            if self._memory_checks > 1 or not self._endpoint.close_largest():
                _log.warning("memory grew beyond its limit: all %d connections are closed", len(self._sessions))
                self._endpoint.reset()
        return self._memory_checks <= _MEMORY_CHECKS

    def _handle(self, received: Received) -> None:
        """Answer one message, or pass it to the worker."""
        peer, content = received.peer, received.content
        if isinstance(content, m.ProtocolError):
            self._refuse(peer, content.seq, str(content), "malformed")
            return
        if isinstance(content, m.Hello):
            self._open_session(peer, content)
            return
        session = self._sessions.get(peer)
        if session is None:
            seq = content.seq if isinstance(content, m.Offload) else m.NO_SEQ
            self._refuse(peer, seq, m.NO_SESSION, "refused")
            return
        if isinstance(content, m.Ping):
            self._send(peer, m.Pong(content.nonce))
        elif isinstance(content, m.Announce):
            session.announced_seq, session.announced_s = content.seq, received.received_s
        else:
            self._admit(session, content, received)

    def _open_session(self, peer: bytes, hello: m.Hello) -> None:
        if peer not in self._sessions:
            self._sessions[peer] = Session(hello.client_id)
            if self._log_limit.allows("connected"):
                _log.info("client %s connected", quoted(hello.client_id))
        size = hello.frame_size
        if size is UNSET or not self._waiting.wait(peer, size, self._worker.prepare):
            self._send(peer, self._welcome)

    def _admit(self, session: Session, offload: m.Offload, received: Received) -> None:
        """Queue an offload, or refuse it with the reason."""
        peer, seq = received.peer, offload.seq
        transfer_s = received.received_s - session.announced_s
        reason = self._refusal_reason(session, offload, received.payload, transfer_s)
        session.last_seq = max(session.last_seq, seq)
        if reason is not None:
            self._refuse(peer, seq, reason, "refused")
            return
        full = self._worker.submit(Request(peer, offload, received.payload, transfer_s, received.received_s))
        if full is not None:
            self._refuse(peer, seq, f"busy: {full}", "busy")

    def _refusal_reason(self, session: Session, offload: m.Offload, jpeg: bytes, transfer_s: float) -> str | None:
        """Why an offload is refused, or None; cheap, and checked before anything is decoded."""
        if offload.seq <= session.last_seq:
            return f"sequence number {offload.seq} was used before (last {session.last_seq})"
        if offload.seq != session.announced_seq:
            return f"offload {offload.seq} was not announced"
        if transfer_s > _MAX_UPLOAD_S:
            return (
                f"offload {offload.seq} was announced {transfer_s:.0f} s ago, at most {_MAX_UPLOAD_S:.0f} s are taken"
            )
        return refusal_reason(offload, jpeg, self._welcome.geometry, self._limits.max_pixels)

    def _refuse(self, peer: bytes, seq: int, reason: str, kind: str) -> None:
        """Answer with the reason, count it, and log it within limits."""
        self.counts[kind] += 1
        if self._log_limit.allows(kind):
            session = self._sessions.get(peer)
            client = quoted(session.client_id) if session else "without a name"
            _log.warning("%s, client %s, offload %d: %s", kind, client, seq, quoted(reason))
        self._send(peer, m.Failure.of(seq, reason))

    def _send(self, peer: bytes, message: m.ServerMessage, payload: bytes = b"") -> None:
        if not self._endpoint.send(peer, message, payload):
            self.counts["unreachable"] += 1
