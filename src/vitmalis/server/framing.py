"""The framing of ZMTP, ZeroMQ's protocol on TCP (RFC 23), as far as it takes to count frames.

libzmq allocates for every frame of a message, and delivers none of them before the last has arrived. So frames are
counted before libzmq gets them.
"""

from __future__ import annotations

SIGNATURE_BYTES = 10
"""Start of a greeting; a peer sends no more before it has received the other side's."""
_GREETING_BYTES = 64
_LONG = 0x02


def is_signature(data: bytes) -> bool:
    """Whether a stream that begins with these ten bytes can be ZMTP."""
    return data[0] == 0xFF and data[-1] == 0x7F


class FrameCounter:
    """A count of the frames in a stream of ZMTP 3, from behind the signature; no byte of a frame is kept."""

    def __init__(self) -> None:
        self._skip_bytes = _GREETING_BYTES - SIGNATURE_BYTES
        self._head = b""
        self._began = False

    def count(self, data: bytes) -> int:
        """Return how many frames begin in the next bytes of the stream.

        Raises:
            ValueError: the greeting is of an older version, whose frames are others.
        """
        if not self._began and data:
            self._began = True
            if data[0] < 3:
                raise ValueError(f"ZMTP {data[0]}, at least 3 is spoken")
        stream = self._head + data
        position, frames = self._skip_bytes, 0
        while position < len(stream):
            head_bytes = 9 if stream[position] & _LONG else 2
            if position + head_bytes > len(stream):
                break
            body_bytes = int.from_bytes(stream[position + 1 : position + head_bytes], "big")
            position += head_bytes + body_bytes
            frames += 1
        self._skip_bytes = max(0, position - len(stream))
        self._head = stream[position:]
        return frames
