"""Coding of messages as frames of ZeroMQ: decoding any bytes gives a valid message or raises `ProtocolError`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from vitmalis.network.wire.messages import (
    MAGIC,
    MAX_HEADER_BYTES,
    MAX_PAYLOAD_BYTES,
    NO_SEQ,
    PROTOCOL,
    ClientMessage,
    Offload,
    ProtocolError,
    ProtocolVersionError,
    Result,
    Seq,
    ServerMessage,
)


class _Seq(msgspec.Struct):
    """The part of a header that is read even if the rest fails validation."""

    seq: Seq


_client_decoder = msgspec.msgpack.Decoder(ClientMessage)
_server_decoder = msgspec.msgpack.Decoder(ServerMessage)
_seq_decoder = msgspec.msgpack.Decoder(_Seq)
_encoder = msgspec.msgpack.Encoder()
# Errors of msgspec on hostile bytes: its own, invalid UTF-8, and nesting deeper than Python's stack.
_DECODING_ERRORS = (msgspec.MsgspecError, ValueError, RecursionError, OverflowError)


def encode(message: ClientMessage | ServerMessage, payload: bytes = b"") -> list[bytes]:
    """Encode one message as frames: its header, then the payload for the two kinds that carry one."""
    header = MAGIC + bytes([PROTOCOL]) + _encoder.encode(message)
    return [header, payload] if isinstance(message, Offload | Result) else [header]


def decode_from_client(
    frames: Sequence[bytes], max_payload_bytes: int = MAX_PAYLOAD_BYTES
) -> tuple[ClientMessage, bytes]:
    """Decode a message and its payload on the server.

    Raises:
        ProtocolError: the frames are not one valid message (`ProtocolVersionError`: another version).
    """
    message, payload = _decode(_client_decoder, frames)
    if isinstance(message, Offload):
        if len(payload) > max_payload_bytes:
            raise ProtocolError(f"payload of {len(payload)} bytes, at most {max_payload_bytes} are taken", message.seq)
        if not payload:
            raise ProtocolError("offload without a payload", message.seq)
    return message, payload


def decode_from_server(frames: Sequence[bytes]) -> tuple[ServerMessage, bytes]:
    """Decode a message and its payload on the client.

    Raises:
        ProtocolError: the frames are not one valid message (`ProtocolVersionError`: another version).
    """
    message, payload = _decode(_server_decoder, frames)
    if isinstance(message, Result):
        message.check_payload(payload)
    return message, payload


def _decode(decoder: msgspec.msgpack.Decoder, frames: Sequence[bytes]) -> tuple[Any, bytes]:
    """Decode header and payload, with the checks that both directions share."""
    if not 1 <= len(frames) <= 2:
        raise ProtocolError(f"message of {'more than 2' if frames else 'no'} frames, 1 or 2 are expected")
    header = frames[0]
    if len(header) > MAX_HEADER_BYTES:
        raise ProtocolError(f"header of {len(header)} bytes, at most {MAX_HEADER_BYTES} are taken")
    if len(header) <= len(MAGIC) or not header.startswith(MAGIC):
        raise ProtocolError("not a ViTMAlis message")
    if header[len(MAGIC)] != PROTOCOL:
        raise ProtocolVersionError(header[len(MAGIC)])
    body = header[len(MAGIC) + 1 :]
    try:
        message = decoder.decode(body)
    except _DECODING_ERRORS as error:
        raise ProtocolError(f"malformed header: {error}", _salvage_seq(body)) from error
    if len(frames) == 2 and not isinstance(message, Offload | Result):
        raise ProtocolError(f"{type(message).__name__} with a payload")
    return message, frames[1] if len(frames) == 2 else b""


def _salvage_seq(body: bytes) -> int:
    """Sequence number of an invalid header, if it can be read, so that the sender knows which offload failed."""
    try:
        return _seq_decoder.decode(body).seq
    except _DECODING_ERRORS:
        return NO_SEQ
