"""The server's receiving thread: sessions, admission of offloads, and answers."""

from __future__ import annotations

import logging
import queue
import time
from collections import Counter, OrderedDict
from dataclasses import dataclass

import msgspec

from vitmalis.network.wire import messages as m
from vitmalis.server.admission import refusal_reason
from vitmalis.server.endpoint import Received, ServerEndpoint
from vitmalis.server.memory import MemoryGuard
from vitmalis.server.worker import Answer, DetectorLike, InferenceWorker, Limits, Request

_log = logging.getLogger(__name__)
_MAX_SESSIONS = 1024
_LOGGED_REFUSALS = 20
_POLL_S = 0.25
_MAX_UPLOAD_S = 3600.0


@dataclass(slots=True)
class Session:
    """State of one connection, which ZeroMQ identifies by `peer`; a client that reconnects gets a new session."""

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

    Raises:
        ValueError: the geometry of the model is outside the bounds of the wire protocol.

    Attributes:
        counts: number of events by kind (served, failed, refused, malformed, busy, unreachable, flooded).
    """

    def __init__(self, endpoint: ServerEndpoint, detector: DetectorLike, limits: Limits = Limits()) -> None:  # noqa: B008
        self.counts: Counter[str] = Counter()
        self._endpoint = endpoint
        self._welcome = m.Welcome(detector.name, detector.model_id, detector.geometry)
        self._answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._worker = InferenceWorker(detector, self._enqueue_answer, limits)
        self._limits = limits
        self._memory = MemoryGuard(limits.max_growth_bytes)
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()
        self._stopping = False

    def warm_up(self) -> None:
        """Start the worker and have it infer once, so that the first offload is not slower than others."""
        self._worker.start()
        self._memory.set_baseline()

    def run(self) -> bool:
        """Serve clients until `stop` is called; False if the inference thread ended before."""
        while not self._stopping:
            for received in self._endpoint.poll(_POLL_S):
                self._handle(received)
            worker_alive = self._worker.alive  # asked first, so that its last answers are sent
            self._send_answers()
            if not worker_alive:
                _log.error("the inference thread has ended, so nothing can be served any more")
                return False
            if self._memory.exceeded():
                self._close_connections()
        return True

    def stop(self) -> None:
        """End `run`; safe from any thread and in a signal handler."""
        self._stopping = True
        self._endpoint.wake()

    def close(self, timeout_s: float = 2.0) -> bool:
        """Stop the worker; False when its running inference did not end in time."""
        return self._worker.stop(timeout_s)

    def _enqueue_answer(self, answer: Answer) -> None:
        self._answers.put(answer)
        self._endpoint.wake()

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

    def _close_connections(self) -> None:
        """Close all connections to free the memory they hold; honest clients connect again."""
        self.counts["flooded"] += 1
        _log.warning("memory grew beyond its limit: all %d connections are closed", len(self._sessions))
        self._endpoint.reset()
        self._sessions.clear()
        self._memory.set_baseline()

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
            self._refuse(peer, seq, "the first message of a connection must be Hello", "refused")
            return
        self._sessions.move_to_end(peer)
        if isinstance(content, m.Ping):
            self._send(peer, m.Pong(content.nonce))
        elif isinstance(content, m.Announce):
            session.announced_seq, session.announced_s = content.seq, received.received_s
        else:
            self._admit(session, content, received)

    def _open_session(self, peer: bytes, hello: m.Hello) -> None:
        """Open a session, and close the one that has been silent longest where there are too many."""
        if peer not in self._sessions:
            _log.info("client %r connected", hello.client_id)
            self._sessions[peer] = Session(hello.client_id)
            if len(self._sessions) > _MAX_SESSIONS:
                self._sessions.popitem(last=False)
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
        """Answer with the reason, count it, and log the first ones, so that a hostile client cannot fill the disk."""
        self.counts[kind] += 1
        level = logging.WARNING if self.counts[kind] <= _LOGGED_REFUSALS else logging.DEBUG
        session = self._sessions.get(peer)
        _log.log(level, "%s, client %r, offload %d: %s", kind, session and session.client_id, seq, reason)
        self._send(peer, m.Failure.of(seq, reason))

    def _send(self, peer: bytes, message: m.ServerMessage, payload: bytes = b"") -> None:
        if not self._endpoint.send(peer, message, payload):
            self.counts["unreachable"] += 1
