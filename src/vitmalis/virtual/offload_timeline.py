"""One offload from decision to result on the virtual clock."""

from __future__ import annotations

from dataclasses import dataclass

from vitmalis.client.events import ResultArrived, StartOffload
from vitmalis.offload import OffloadOutcome
from vitmalis.virtual.durations import Durations
from vitmalis.virtual.network import Connection, Upload, upload
from vitmalis.virtual.server import AnsweredOffload


@dataclass(frozen=True, slots=True, eq=False)
class OffloadTimeline:
    """An offload that has been sent, and all of its times that do not depend on the server's other work.

    Attributes:
        start: frame and decision.
        answer: what is sent, and what the server makes of it.
        decision_s: duration of the decision, which ends when encoding starts.
        encode_start_s: encoding starts, seconds of the run.
        encode_s: its duration.
        sent: when the upload reaches the server.
        decode_s, inference_s: durations at the server; 0 of an offload that it refuses.
    """

    start: StartOffload
    answer: AnsweredOffload
    decision_s: float
    encode_start_s: float
    encode_s: float
    sent: Upload
    decode_s: float
    inference_s: float

    def done_s(self, free_s: float) -> float:
        """When the server is done with it, if it has nothing else to do from `free_s` on."""
        return self._served_s(free_s) + self.decode_s + self.inference_s

    def received_s(self, free_s: float, connection: Connection) -> float:
        """When the client has the answer, if the server has nothing else to do from `free_s` on."""
        return connection.download(self.done_s(free_s))

    def result(self, free_s: float, received_s: float) -> ResultArrived:
        """The result received at `received_s`, the server having had nothing else to do from `free_s` on."""
        outcome = self._outcome(free_s, received_s)
        return ResultArrived(self.start.offload_id, self.answer.detections, outcome, self.answer.asked)

    def _served_s(self, free_s: float) -> float:
        """When the server turns to it; a refusal is sent as soon as the payload is there."""
        return self.sent.arrived_s if self.answer.refusal else max(self.sent.arrived_s, free_s)

    def _outcome(self, free_s: float, received_s: float) -> OffloadOutcome:
        arrived_s = self.sent.arrived_s
        network_s = received_s - self.done_s(free_s) + arrived_s - self.encode_start_s - self.encode_s
        return OffloadOutcome(
            frame_index=self.start.frame.index,
            decision=self.start.decision,
            payload_bytes=self.answer.payload_bytes,
            encode_s=self.encode_s,
            decode_s=self.decode_s,
            inference_s=self.inference_s,
            transfer_s=self.sent.transfer_s,
            rtt_s=network_s - self.sent.transfer_s,
            e2e_latency_s=received_s - self.encode_start_s,
            queue_s=self._served_s(free_s) - arrived_s,
            tokens_cached=self.answer.tokens_cached,
        )


def simulate_offload(
    start: StartOffload, answer: AnsweredOffload, *, now_s: float, connection: Connection, durations: Durations
) -> OffloadTimeline:
    """Compute when each step of an offload happens up to the server; the connection has then carried its bytes.

    Args:
        start: frame and decision.
        answer: what is sent, and what the server makes of it.
        now_s: when the policy is asked.
        connection: to the server.
        durations: of every stage.
    """
    number, decision = start.offload_id, start.decision
    decision_s = sum(durations.decision_s(decision))
    encode_start_s = now_s + decision_s
    encode_s = durations.encode_s(number, decision)
    served = not answer.refusal
    return OffloadTimeline(
        start=start,
        answer=answer,
        decision_s=decision_s,
        encode_start_s=encode_start_s,
        encode_s=encode_s,
        sent=upload(connection, encode_start_s + encode_s, answer.header, answer.payload_bytes),
        decode_s=durations.decode_s(number, decision) if served else 0.0,
        inference_s=durations.inference_s(number, decision) if served else 0.0,
    )
