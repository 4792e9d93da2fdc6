"""The payload of a `Result`: detections as raw bytes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from msgspec import UNSET

from vitmalis.instance_masks import MASK_BYTES, filled_masks, masks_to_send, packed, unpacked
from vitmalis.network.wire.messages import DETECTION_BYTES, MAX_DETECTIONS, MAX_MASKS, ProtocolError, Result
from vitmalis.types import COCO_CLASSES, Detections


def pack_detections(detections: Detections) -> bytes:
    """Pack detections as little-endian arrays: boxes_xyxy float32 (N, 4), scores float32 (N,), labels uint16 (N,).

    Masks follow, where there are some, up to the last one that does not fill its box, as `instance_masks.packed` does.

    Raises:
        ProtocolError: more than `MAX_DETECTIONS` or `MAX_MASKS`, or values that the receiver would refuse.
    """
    masks = b"" if detections.masks is None else packed(detections.masks[: masks_to_send(detections.masks)])
    for number, most, what in (
        (len(detections), MAX_DETECTIONS, "detections"),
        (len(masks) // MASK_BYTES, MAX_MASKS, "masks"),
    ):
        if number > most:
            raise ProtocolError(f"{number} {what}, at most {most} can be sent")
    _check_detections(detections)
    return (
        detections.boxes_xyxy.astype("<f4").tobytes()
        + detections.scores.astype("<f4").tobytes()
        + detections.labels.astype("<u2").tobytes()
        + masks
    )


def unpack_detections(result: Result, payload: bytes) -> Detections:
    """Unpack the detections of a result from the bytes of `pack_detections`.

    Raises:
        ProtocolError: wrong length, non-finite boxes, scores outside 0..1 or unknown labels.
    """
    count = result.count
    result.check_payload(payload)
    detections = Detections.of(
        np.frombuffer(payload, "<f4", 4 * count),
        np.frombuffer(payload, "<f4", count, offset=16 * count),
        np.frombuffer(payload, "<u2", count, offset=20 * count),
    )
    _check_detections(detections)
    if result.masks is UNSET:
        return detections
    masks = filled_masks(count)
    masks[: result.masks] = unpacked(payload[count * DETECTION_BYTES :])
    return replace(detections, masks=masks)


def _check_detections(detections: Detections) -> None:
    """Raise `ProtocolError` for values that no detector should give."""
    if not np.isfinite(detections.boxes_xyxy).all():
        raise ProtocolError("boxes with non-finite numbers")
    if not ((detections.scores >= 0) & (detections.scores <= 1)).all():
        raise ProtocolError("scores outside 0..1")
    if not ((detections.labels >= 0) & (detections.labels < len(COCO_CLASSES))).all():
        raise ProtocolError(f"labels outside 0..{len(COCO_CLASSES) - 1}")
