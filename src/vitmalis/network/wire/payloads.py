"""The payload of a `Result`: detections as raw bytes."""

from __future__ import annotations

import numpy as np

from vitmalis.instance_masks import packed, unpacked
from vitmalis.network.wire.messages import DETECTION_BYTES, MAX_DETECTIONS, MAX_MASKS, ProtocolError, detection_bytes
from vitmalis.types import COCO_CLASSES, Detections


def pack_detections(detections: Detections) -> bytes:
    """Pack detections as little-endian arrays: boxes_xyxy float32 (N, 4), scores float32 (N,), labels uint16 (N,).

    Masks follow, if there are any, as `vitmalis.instance_masks.packed` gives them.

    Raises:
        ProtocolError: more than `MAX_DETECTIONS`, or `MAX_MASKS`, or values that the receiver would refuse.
    """
    most = MAX_DETECTIONS if detections.masks is None else MAX_MASKS
    if len(detections) > most:
        raise ProtocolError(f"{len(detections)} detections, at most {most} can be sent")
    _check_detections(detections)
    return (
        detections.boxes_xyxy.astype("<f4").tobytes()
        + detections.scores.astype("<f4").tobytes()
        + detections.labels.astype("<u2").tobytes()
        + (b"" if detections.masks is None else packed(detections.masks))
    )


def unpack_detections(count: int, payload: bytes, masked: bool = False) -> Detections:
    """Unpack `count` detections, with or without masks, from the bytes of `pack_detections`.

    Raises:
        ProtocolError: wrong length, non-finite boxes, scores outside 0..1 or unknown labels.
    """
    if len(payload) != count * detection_bytes(masked):
        raise ProtocolError(f"{len(payload)} bytes for {count} detections")
    detections = Detections.of(
        np.frombuffer(payload, "<f4", 4 * count),
        np.frombuffer(payload, "<f4", count, offset=16 * count),
        np.frombuffer(payload, "<u2", count, offset=20 * count),
        unpacked(payload[count * DETECTION_BYTES :]) if masked else None,
    )
    _check_detections(detections)
    return detections


def _check_detections(detections: Detections) -> None:
    """Raise `ProtocolError` for values that no detector should give."""
    if not np.isfinite(detections.boxes_xyxy).all():
        raise ProtocolError("boxes with non-finite numbers")
    if not ((detections.scores >= 0) & (detections.scores <= 1)).all():
        raise ProtocolError("scores outside 0..1")
    if not ((detections.labels >= 0) & (detections.labels < len(COCO_CLASSES))).all():
        raise ProtocolError(f"labels outside 0..{len(COCO_CLASSES) - 1}")
