"""One offload from decision to result on the virtual clock."""

from __future__ import annotations

from dataclasses import dataclass

from vitmalis.client.events import StartOffload
from vitmalis.client.header import offload_header
from vitmalis.offload import OffloadOutcome
from vitmalis.regions import ModelGeometry
from vitmalis.virtual.durations import Durations
from vitmalis.virtual.network import Connection, upload


@dataclass(frozen=True, slots=True)
class Journey:
    """When what happens, seconds of the run.

    Attributes:
        decision_s: how long deciding took.
        encode_start_s: the decision is made, encoding begins.
        arrived_s: the payload is at the server.
        server_free_s: the server has sent the result and is free for another offload.
        received_s: the result is there.
        outcome: what the device learns of it.
    """

    decision_s: float
    encode_start_s: float
    arrived_s: float
    server_free_s: float
    received_s: float
    outcome: OffloadOutcome


def travel(
    start: StartOffload,
    payload_bytes: int,
    *,
    now_s: float,
    server_free_s: float,
    geometry: ModelGeometry,
    connection: Connection,
    durations: Durations,
) -> Journey:
    """Follow an offload that is decided on at `now_s`; the connection carries its bytes from then on.

    Args:
        start: frame and decision.
        payload_bytes: size of its JPEG.
        now_s: when it is decided on.
        server_free_s: when the server has done all before it.
        geometry: of the server's model.
        connection: to the server.
        durations: of every stage.
    """
    number, decision = start.offload_id, start.decision
    decision_s = sum(durations.decision_s(decision))
    encode_start_s = now_s + decision_s
    encode_s = durations.encode_s(number, decision)
    header = offload_header(number, start.frame, decision, geometry)
    sent = upload(connection, encode_start_s + encode_s, header, payload_bytes)
    served_s = max(sent.arrived_s, server_free_s)
    decode_s, inference_s = durations.decode_s(number, decision), durations.inference_s(number, decision)
    done_s = served_s + decode_s + inference_s
    received_s = connection.download(done_s)
    network_s = received_s - done_s + sent.arrived_s - encode_start_s - encode_s
    outcome = OffloadOutcome(
        frame_index=start.frame.index,
        decision=decision,
        payload_bytes=payload_bytes,
        encode_s=encode_s,
        decode_s=decode_s,
        inference_s=inference_s,
        transfer_s=sent.transfer_s,
        rtt_s=network_s - sent.transfer_s,
        e2e_latency_s=received_s - encode_start_s,
        queue_s=served_s - sent.arrived_s,
    )
    return Journey(decision_s, encode_start_s, sent.arrived_s, done_s, received_s, outcome)
