"""The receiving thread: who speaks, what of it is served, and the answers."""

from __future__ import annotations

import logging
import queue
import time
from collections import Counter, OrderedDict
from dataclasses import dataclass

import msgspec

from vitmalis.network.wire import messages as m
from vitmalis.server.admission import objection
from vitmalis.server.endpoint import Received, ServerEndpoint
from vitmalis.server.memory import MemoryGuard
from vitmalis.server.worker import Answer, DetectorLike, Job, Limits, Worker

_log = logging.getLogger(__name__)
_MAX_SESSIONS = 1024
_LOGGED_REFUSALS = 20
_POLL_S = 0.25


@dataclass(slots=True)
class Session:
    """What is known of one connection, which ZeroMQ names by `peer`; a client that reconnects gets a new one."""

    client_id: str
    last_seq: int = m.NO_SEQ
    announced_seq: int = m.NO_SEQ
    announced_s: float = 0.0


class Service:
    """Serves detections until `stop`.

    Args:
        endpoint: bound; closed by its owner.
        detector: the model.
        limits: what it takes on.

    Raises:
        ValueError: the model's regions are beyond what the wire can say.

    Attributes:
        counts: how often what happened, by name (served, failed, refused, malformed, busy, unreachable, flooded).
    """

    def __init__(self, endpoint: ServerEndpoint, detector: DetectorLike, limits: Limits = Limits()) -> None:  # noqa: B008
        self.counts: Counter[str] = Counter()
        self._endpoint = endpoint
        self._welcome = m.Welcome(detector.name, detector.model_id, detector.geometry)
        self._answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._worker = Worker(detector, self._answered, limits)
        self._limits = limits
        self._memory = MemoryGuard(limits.max_growth_bytes)
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()
        self._stopping = False

    def warm_up(self) -> None:
        """Start the worker and let it infer once, so that the first offload does not pay for it."""
        self._worker.start()
        self._memory.settle()

    def run(self) -> None:
        """Serve; returns after `stop`."""
        while not self._stopping:
            for received in self._endpoint.poll(_POLL_S):
                self._handle(received)
            self._send_answers()
            if self._memory.exceeded():
                self._cut_all()

    def stop(self) -> None:
        """End `run`; from any thread or a signal handler."""
        self._stopping = True
        self._endpoint.wake()

    def close(self, timeout_s: float = 2.0) -> bool:
        """End the worker; False when its running inference did not end in time."""
        return self._worker.stop(timeout_s)

    def _answered(self, answer: Answer) -> None:
        self._answers.put(answer)
        self._endpoint.wake()

    def _send_answers(self) -> None:
        while not self._answers.empty():
            answer = self._answers.get()
            message = answer.message
            if isinstance(message, m.Result):
                server_s = time.monotonic() - answer.job.received_s
                self.counts["served"] += 1
                self._send(answer.job.peer, msgspec.structs.replace(message, server_s=server_s), answer.payload)
            else:
                self._refuse(answer.job.peer, message.seq, message.reason, "failed")

    def _cut_all(self) -> None:
        """Free what connections hold, by closing all; honest clients connect anew."""
        self.counts["flooded"] += 1
        _log.warning("memory grew beyond its bound: all %d connections are cut", len(self._sessions))
        self._endpoint.reset()
        self._sessions.clear()
        self._memory.settle()

    def _handle(self, received: Received) -> None:
        """Answer one message, or hand it to the worker."""
        peer, content = received.peer, received.content
        if isinstance(content, m.ProtocolError):
            self._refuse(peer, content.seq, str(content), "malformed")
            return
        if isinstance(content, m.Hello):
            self._greet(peer, content)
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

    def _greet(self, peer: bytes, hello: m.Hello) -> None:
        """Open a session; the one that was silent longest makes room."""
        if peer not in self._sessions:
            _log.info("client %r connected", hello.client_id)
            self._sessions[peer] = Session(hello.client_id)
            if len(self._sessions) > _MAX_SESSIONS:
                self._sessions.popitem(last=False)
        self._send(peer, self._welcome)

    def _admit(self, session: Session, offload: m.Offload, received: Received) -> None:
        """Queue an offload, or say why not."""
        peer, seq = received.peer, offload.seq
        reason = self._objection(session, offload, received.payload)
        session.last_seq = max(session.last_seq, seq)
        if reason is not None:
            self._refuse(peer, seq, reason, "refused")
            return
        transfer_s = received.received_s - session.announced_s
        full = self._worker.submit(Job(peer, offload, received.payload, transfer_s, received.received_s))
        if full is not None:
            self._refuse(peer, seq, f"busy: {full}", "busy")

    def _objection(self, session: Session, offload: m.Offload, jpeg: bytes) -> str | None:
        """Why this offload is not served, or None; cheap, and before anything is decoded."""
        if offload.seq <= session.last_seq:
            return f"sequence number {offload.seq} was used before (last {session.last_seq})"
        if offload.seq != session.announced_seq:
            return f"offload {offload.seq} was not announced"
        return objection(offload, jpeg, self._welcome.geometry, self._limits.max_pixels)

    def _refuse(self, peer: bytes, seq: int, reason: str, kind: str) -> None:
        """Tell the sender why, count, and log the first ones (a hostile client must not fill the disk)."""
        self.counts[kind] += 1
        level = logging.WARNING if self.counts[kind] <= _LOGGED_REFUSALS else logging.DEBUG
        session = self._sessions.get(peer)
        _log.log(level, "%s, client %r, offload %d: %s", kind, session and session.client_id, seq, reason)
        self._send(peer, m.Failure.of(seq, reason))

    def _send(self, peer: bytes, message: m.ServerMessage, payload: bytes = b"") -> None:
        if not self._endpoint.send(peer, message, payload):
            self.counts["unreachable"] += 1
