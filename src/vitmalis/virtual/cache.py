"""The inference cache: stored answers of the virtual server, so that a study pays once for each distinct inference."""

from __future__ import annotations

import hashlib
import logging
import sqlite3
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np

from vitmalis.errors import UserError
from vitmalis.instance_masks import packed, unpacked
from vitmalis.types import COCO_CLASSES, Detections
from vitmalis.virtual.byte_store import ByteStore

_log = logging.getLogger(__name__)
_STORE_ERRORS = (OSError, sqlite3.Error, ValueError)  # the last for a damaged text in the schema
_FILE = "answers.sqlite"
_EARLIER_FILE = "cache.db"
"""Database of earlier versions. It is not opened, as its library unpickles what it finds there."""
_VERSION = 1
"""Version of the stored form; part of every key, so that entries of another version are not found."""


class AnswerKey(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that an answer depends on.

    Attributes:
        code: fingerprint of the code and libraries that compute answers, see `vitmalis.fingerprint`.
        video_sha256, frame: checksum of the video file, and number of the frame in it.
        width, height: size of the frame as it is played, pixels.
        model_id: identity of the detector, its weights and preprocessing.
        quality, restoration_point, frame_downsampling: from the offload decision.
        coarse_quality: from the offload decision; 0 without coarse macroblocks.
        downsample_mask, blank_mask, coarse_mask: bits of bool (rows, cols), packed by rows; empty for none.
    """

    code: str
    video_sha256: str
    frame: int
    width: int
    height: int
    model_id: str
    quality: int
    restoration_point: int
    frame_downsampling: int = 1
    downsample_mask: bytes = b""
    blank_mask: bytes = b""
    coarse_mask: bytes = b""
    coarse_quality: int = 0

    def digest(self) -> str:
        """Hash the key for the store."""
        return hashlib.sha256(bytes([_VERSION]) + msgspec.msgpack.encode(self)).hexdigest()


class CachedAnswer(msgspec.Struct, frozen=True):
    """The server's answer to an offload, as it is cached.

    Attributes:
        payload_bytes: size of the JPEG.
        detections: boxes in pixels of the captured frame, with all scores that the server returns.
    """

    payload_bytes: int
    detections: Detections


class _Stored(msgspec.Struct, frozen=True, omit_defaults=True):
    """An answer as it is stored: arrays as little-endian bytes, masks packed."""

    payload_bytes: Annotated[int, msgspec.Meta(ge=0)]
    boxes_xyxy: bytes
    scores: bytes
    labels: bytes
    masks: bytes | None = None


class InferenceCache:
    """A store of answers that many processes may read and write at the same time.

    Args:
        directory: created if absent.
        max_bytes: above this size the least recently used answers are dropped.

    Raises:
        UserError: the store cannot be opened.

    Attributes:
        hits, misses: counted by this object.
    """

    def __init__(self, directory: Path, max_bytes: int) -> None:
        try:
            self._store = ByteStore(directory / _FILE, max_bytes)
        except _STORE_ERRORS as error:
            raise UserError(
                f"inference cache '{directory}' cannot be opened ({error}): delete the folder, or say "
                "inference_cache.enabled=false"
            ) from error
        if (directory / _EARLIER_FILE).exists():
            _log.warning("inference cache '%s': %s is of an earlier version: delete it", directory, _EARLIER_FILE)
        self._directory = directory
        self.hits = 0
        self.misses = 0

    def get(self, key: AnswerKey) -> CachedAnswer | None:
        """Look an answer up; None if it is not stored, was dropped, or is damaged."""
        try:
            answer = _decoded(self._store.get(key.digest()))
        except (msgspec.MsgspecError, *_STORE_ERRORS):
            answer = None
        self.hits += answer is not None
        self.misses += answer is None
        return answer

    def put(self, key: AnswerKey, answer: CachedAnswer) -> None:
        """Store an answer; a failure, such as a full disk, is logged and costs another inference later."""
        found = answer.detections
        stored = _Stored(
            answer.payload_bytes,
            found.boxes_xyxy.astype("<f4").tobytes(),
            found.scores.astype("<f4").tobytes(),
            found.labels.astype("<i8").tobytes(),
            None if found.masks is None else packed(found.masks),
        )
        try:
            self._store.put(key.digest(), msgspec.msgpack.encode(stored))
        except _STORE_ERRORS as error:
            _log.warning("inference cache '%s' did not take an answer: %s", self._directory, error)

    def close(self) -> None:
        """Close the files of the store."""
        self._store.close()


def _decoded(value: bytes | None) -> CachedAnswer | None:
    """The answer in stored bytes; raises `ValueError` or `MsgspecError` where they hold none."""
    if value is None:
        return None
    stored = msgspec.msgpack.decode(value, type=_Stored)
    detections = Detections.of(
        np.frombuffer(stored.boxes_xyxy, "<f4"),
        np.frombuffer(stored.scores, "<f4"),
        np.frombuffer(stored.labels, "<i8"),
        None if stored.masks is None else unpacked(stored.masks),
    )
    scores, labels = detections.scores, detections.labels
    if not (np.isfinite(detections.boxes_xyxy).all() and ((scores >= 0) & (scores <= 1)).all()):
        raise ValueError("boxes or scores that no detector returns")
    if not ((labels >= 0) & (labels < len(COCO_CLASSES))).all():
        raise ValueError("labels of no class")
    return CachedAnswer(stored.payload_bytes, detections)
