"""One offload from decision to result on the virtual clock."""

from __future__ import annotations

from dataclasses import dataclass

from vitmalis.client.events import StartOffload
from vitmalis.offload import OffloadOutcome
from vitmalis.virtual.durations import Durations
from vitmalis.virtual.network import Connection, upload
from vitmalis.virtual.server import AnsweredOffload


@dataclass(frozen=True, slots=True)
class OffloadTimeline:
    """When each step of an offload happens, seconds of the run.

    Attributes:
        decision_s: duration of the decision, which ends when encoding starts.
        encode_start_s: encoding starts.
        arrived_s: the payload is complete at the server.
        server_free_s: the server has nothing left to do.
        received_s: the client has the result, or the refusal.
        outcome: what the policy learns of a result.
    """

    decision_s: float
    encode_start_s: float
    arrived_s: float
    server_free_s: float
    received_s: float
    outcome: OffloadOutcome


def simulate_offload(
    start: StartOffload,
    answer: AnsweredOffload,
    *,
    now_s: float,
    server_free_s: float,
    connection: Connection,
    durations: Durations,
) -> OffloadTimeline:
    """Compute when each step of an offload happens; the connection has then carried its bytes.

    A refusal is sent as soon as the payload is there; a result after the server's other work, decoding and inference.

    Args:
        start: frame and decision.
        answer: what is sent, and what the server makes of it.
        now_s: when the policy is asked.
        server_free_s: when the server has nothing else left to do.
        connection: to the server.
        durations: of every stage.
    """
    number, decision = start.offload_id, start.decision
    decision_s = sum(durations.decision_s(decision))
    encode_start_s = now_s + decision_s
    encode_s = durations.encode_s(number, decision)
    sent = upload(connection, encode_start_s + encode_s, answer.header, answer.payload_bytes)
    served_s, decode_s, inference_s = sent.arrived_s, 0.0, 0.0
    if not answer.refusal:
        served_s = max(sent.arrived_s, server_free_s)
        decode_s, inference_s = durations.decode_s(number, decision), durations.inference_s(number, decision)
    done_s = served_s + decode_s + inference_s
    received_s = connection.download(done_s)
    network_s = received_s - done_s + sent.arrived_s - encode_start_s - encode_s
    outcome = OffloadOutcome(
        frame_index=start.frame.index,
        decision=decision,
        payload_bytes=answer.payload_bytes,
        encode_s=encode_s,
        decode_s=decode_s,
        inference_s=inference_s,
        transfer_s=sent.transfer_s,
        rtt_s=network_s - sent.transfer_s,
        e2e_latency_s=received_s - encode_start_s,
        queue_s=served_s - sent.arrived_s,
    )
    free_s = server_free_s if answer.refusal else done_s
    return OffloadTimeline(decision_s, encode_start_s, sent.arrived_s, free_s, received_s, outcome)
