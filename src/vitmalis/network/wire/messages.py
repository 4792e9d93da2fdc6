"""The wire protocol: the messages between client and server, and their validation.

A message is one ZeroMQ multipart of one or two frames: a header (magic, protocol version, msgpack of one tagged struct)
and, for `Offload` and `Result`, a raw payload (JPEG bytes; packed detections). Only durations cross the wire, so the
clocks of the two machines need not agree. `vitmalis.network.wire.coding` makes bytes of messages and messages of bytes.
"""

from __future__ import annotations

import math
from typing import Annotated

import msgspec
import numpy as np
from msgspec import UNSET, Meta, UnsetType

from vitmalis.instance_masks import MASK_BYTES, masks_to_send
from vitmalis.network.wire.caching import Caching
from vitmalis.network.wire.feedback import AskedRegions, UncertainScores
from vitmalis.network.wire.masks import Regions, check_mask_bits, unpack_mask
from vitmalis.regions.grid import ModelGeometry
from vitmalis.regions.treatment import AnyTreatments, treated
from vitmalis.types import COCO_CLASSES, MAX_FACTOR, MAX_WINDOW, BoolMask, Configuration, Detections, Displacements

MAGIC = b"VM"
PROTOCOL = 2
"""Version of the wire format; every message carries it, so that a first message of any kind reveals a mismatch."""
PATCH_PX = 16
"""Side of a patch in every served model: two JPEG blocks, so that no block mixes two regions."""
MAX_HEADER_BYTES = 64 * 1024
MAX_PAYLOAD_BYTES = 16 * 1024 * 1024
MAX_DETECTIONS = 10_000
MAX_REASON_CHARS = 500
MAX_RESTORATION_POINTS = 64
NO_SEQ = -1
"""Sequence number of a failure that concerns no offload."""
NO_SESSION = "no session: the first message of a connection must be Hello"
"""Reason of a failure on which a client connects again: the server does not know its connection (any more)."""
DETECTION_BYTES = 4 * 4 + 4 + 2
"""Size of a packed detection without its mask: box, score and label."""
MAX_MASKS = 1000
"""Most masks of a result."""
MAX_RESULT_BYTES = MAX_DETECTIONS * DETECTION_BYTES + MAX_MASKS * MASK_BYTES
"""Size of the largest payload of a `Result`."""
_MAX_DURATION_S = 86_400.0


class ProtocolError(ValueError):
    """Bytes that are not a valid message; `seq` is that of the offload concerned, or `NO_SEQ`."""

    def __init__(self, reason: str, seq: int = NO_SEQ) -> None:
        super().__init__(reason)
        self.seq = seq


class ProtocolVersionError(ProtocolError):
    """A message in another version of this protocol; `theirs` is the sender's version."""

    def __init__(self, theirs: int) -> None:
        super().__init__(
            f"the peer speaks protocol {theirs}, this side {PROTOCOL}: install the same vitmalis version on both"
        )
        self.theirs = theirs


Seq = Annotated[int, Meta(ge=0, le=2**53)]
Count = Annotated[int, Meta(ge=0, le=MAX_DETECTIONS)]
Side = Annotated[int, Meta(ge=16, le=8192)]
RestorationPoint = Annotated[int, Meta(ge=0, le=MAX_RESTORATION_POINTS)]
Text = Annotated[str, Meta(max_length=200)]


class _Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag=str.lower):
    """Base of all messages: immutable, tagged with its lower-case name, strict about its fields."""


class Hello(_Message, frozen=True):
    """Client: the first message on every connection.

    Attributes:
        client_id: a name for logs, not a proof of identity.
        frame_size: (width, height) in pixels of the client's frames, for which a server may prepare; absent if unknown.
    """

    client_id: Text
    frame_size: tuple[Side, Side] | UnsetType = UNSET


class Welcome(_Message, frozen=True):
    """Server: the answer to `Hello`; says which model serves, its regions, and the names behind its labels.

    Raises:
        ValueError: a geometry that cannot be served.
    """

    model: Text
    model_id: Text
    geometry: ModelGeometry
    classes: Annotated[tuple[Text, ...], Meta(max_length=1000)] = COCO_CLASSES

    def __post_init__(self) -> None:
        window, factor, patch_px, points = msgspec.structs.astuple(self.geometry)
        regions = 1 <= window <= MAX_WINDOW and 1 <= factor <= MAX_FACTOR and patch_px == PATCH_PX
        if not (regions and 0 <= points <= MAX_RESTORATION_POINTS):
            raise ValueError(f"a model with {self.geometry} cannot be served")


class Announce(_Message, frozen=True):
    """Client: offload `seq` follows immediately; the server times its payload from here (`Result.transfer_s`)."""

    seq: Seq


class Offload(_Message, frozen=True):
    """Client: header of one compressed frame, whose JPEG bytes are the payload.

    Attributes:
        seq: strictly increasing on one connection.
        frame_index: number of the captured frame; the server does not use it.
        width, height: size of the frame in pixels, 16..8192; detections come back in these pixels. The JPEG has this
            size, or that of the packed frame (`codec.packing.packed_size`) where regions are downsampled.
        tau_d, quality, restoration_point: the `Configuration`.
        window_size, downsampling_factor: w and d; a decision region is 16*w*d pixels square.
        mask_rows, mask_cols, mask_bits: downsample mask **B** by rows, first region in the highest bit; empty for none.
        feedback: which regions the server is to ask back; absent for an offload of one round.
        caching: with it, the frame's tokens are cached; absent otherwise.

    Raises:
        ValueError: a mask does not fit the frame, or tokens are to be cached at restoration point 0.
    """

    seq: Seq
    frame_index: Seq
    width: Side
    height: Side
    tau_d: Annotated[int, Meta(ge=0, le=2)]
    quality: Annotated[int, Meta(ge=1, le=100)]
    restoration_point: RestorationPoint
    window_size: Annotated[int, Meta(ge=1, le=MAX_WINDOW)]
    downsampling_factor: Annotated[int, Meta(ge=1, le=MAX_FACTOR)]
    mask_rows: Regions = 0
    mask_cols: Regions = 0
    mask_bits: bytes = b""
    feedback: UncertainScores | UnsetType = UNSET
    caching: Caching | UnsetType = UNSET

    def __post_init__(self) -> None:
        rows, cols = self.mask_rows, self.mask_cols
        check_mask_bits(rows, cols, self.mask_bits)
        expected = self._regions
        if (rows, cols) not in ((0, 0), expected):
            raise ValueError(f"mask of {rows} x {cols} regions, the frame has {expected[0]} x {expected[1]}")
        if self.caching is not UNSET:
            if not self.restoration_point:
                raise ValueError("tokens are cached from restoration point 1 on, not at 0")
            self.caching.check(expected)

    @classmethod
    def of(
        cls,
        seq: int,
        frame_index: int,
        frame_size: tuple[int, int],
        configuration: Configuration,
        *,
        downsample_mask: BoolMask | None = None,
        window_size: int,
        downsampling_factor: int,
        feedback: UncertainScores | UnsetType = UNSET,
        caching: Caching | UnsetType = UNSET,
    ) -> Offload:
        """Build from the library's types; `frame_size` is (width, height), the mask bool (rows, cols) or None."""
        mask = np.zeros((0, 0), bool) if downsample_mask is None else downsample_mask
        return cls(
            seq=seq,
            frame_index=frame_index,
            width=frame_size[0],
            height=frame_size[1],
            tau_d=configuration.tau_d,
            quality=configuration.quality,
            restoration_point=configuration.restoration_point,
            window_size=window_size,
            downsampling_factor=downsampling_factor,
            mask_rows=mask.shape[0],
            mask_cols=mask.shape[1],
            mask_bits=np.packbits(mask).tobytes(),
            feedback=feedback,
            caching=caching,
        )

    @property
    def downsample_mask(self) -> BoolMask | None:
        """Mask **B**, bool (rows, cols), or None when nothing is downsampled."""
        mask = unpack_mask(self.mask_rows, self.mask_cols, self.mask_bits)
        return mask if mask.any() else None

    @property
    def regions(self) -> AnyTreatments | None:
        """How each region is treated, (rows, cols), or None when all are full."""
        return treated(self.downsample_mask, None if self.caching is UNSET else self.caching.mask(self._regions))

    @property
    def displacements(self) -> Displacements:
        """By how many tokens the content of each region has moved, int8 (rows, cols, 2); 0 where it is not cached."""
        if self.caching is UNSET:
            return np.zeros((*self._regions, 2), np.int8)
        return self.caching.displacements(self._regions)

    @property
    def _regions(self) -> tuple[int, int]:
        """Rows and columns of the frame's regions."""
        region_px = PATCH_PX * self.window_size * self.downsampling_factor
        return -(-self.height // region_px), -(-self.width // region_px)


class Result(_Message, frozen=True):
    """Server: the detections of offload `seq` (payload: see `payloads.pack_detections`) and their durations, s.

    Attributes:
        count: number of detections in the payload.
        decode_s, inference_s: JPEG decoding and unpacking; detector.
        queue_s: from receipt of the payload to the start of decoding.
        transfer_s: from receipt of `Announce` to receipt of the payload: the upload without propagation.
        server_s: from receipt of the payload to sending this message.
        asked: regions that the server asks back; absent unless the offload requests feedback.
        cached: with an offload that has `caching`, whether its tokens are cached now; absent otherwise.
        masks: number of masks in the payload: those of the first detections, while the others' fill their boxes; absent
            from a server whose model finds boxes only.

    Raises:
        ValueError: more masks than detections, or a duration that is negative, not finite or above a day.
    """

    seq: Seq
    count: Count
    decode_s: float
    inference_s: float
    queue_s: float
    transfer_s: float
    server_s: float
    asked: AskedRegions | UnsetType = UNSET
    cached: bool | UnsetType = UNSET
    masks: Annotated[int, Meta(ge=0, le=MAX_MASKS)] | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.masks is not UNSET and self.masks > self.count:
            raise ValueError(f"{self.masks} masks of {self.count} detections")
        for name in ("decode_s", "inference_s", "queue_s", "transfer_s", "server_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and 0 <= value <= _MAX_DURATION_S):
                raise ValueError(f"{name} is {value}")

    def with_detections(self, detections: Detections) -> Result:
        """This message with a payload of these detections."""
        masks = UNSET if detections.masks is None else masks_to_send(detections.masks)
        return msgspec.structs.replace(self, count=len(detections), masks=masks)

    @property
    def payload_bytes(self) -> int:
        """Compute the size of the payload in bytes."""
        return self.count * DETECTION_BYTES + (0 if self.masks is UNSET else self.masks * MASK_BYTES)

    def check_payload(self, payload: bytes) -> None:
        """Raise `ProtocolError` unless a payload has the size of these detections and masks."""
        if len(payload) != self.payload_bytes:
            masks = f" with {self.masks} masks" if self.masks else ""
            raise ProtocolError(f"{len(payload)} bytes for {self.count} detections{masks}", self.seq)


class Failure(_Message, frozen=True):
    """Server: offload `seq` (or, with `NO_SEQ`, some message) gets no result; `reason` says why."""

    seq: Annotated[int, Meta(ge=NO_SEQ, le=2**53)]
    reason: Annotated[str, Meta(max_length=MAX_REASON_CHARS)]

    @classmethod
    def of(cls, seq: int, reason: str) -> Failure:
        """Build a failure whose reason is cut to its limit."""
        return cls(seq, reason[:MAX_REASON_CHARS])


class Ping(_Message, frozen=True):
    """Client: asks for a `Pong` with the same nonce, to measure a round trip."""

    nonce: Seq


class Pong(_Message, frozen=True):
    """Server: the answer to `Ping`."""

    nonce: Seq


ClientMessage = Hello | Announce | Offload | Ping
ServerMessage = Welcome | Result | Failure | Pong
