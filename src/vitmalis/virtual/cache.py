"""The inference cache: stored answers of the virtual server, so that a study pays once for each distinct inference."""

from __future__ import annotations

import hashlib
import logging
import sqlite3
from pathlib import Path

import diskcache
import msgspec
import numpy as np

from vitmalis.errors import UserError
from vitmalis.types import Detections

_log = logging.getLogger(__name__)
_STORE_ERRORS = (OSError, sqlite3.DatabaseError)
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
        downsample_mask, blank_mask: bits of bool (rows, cols), packed by rows; empty for none.
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


class _Stored(msgspec.Struct, frozen=True):
    """An answer as it is stored: arrays as little-endian bytes."""

    payload_bytes: int
    boxes_xyxy: bytes
    scores: bytes
    labels: bytes


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
            self._store = diskcache.Cache(
                str(directory), size_limit=max_bytes, eviction_policy="least-recently-used", timeout=60
            )
        except _STORE_ERRORS as error:
            raise UserError(
                f"inference cache '{directory}' cannot be opened ({error}): delete the folder, or say "
                "inference_cache.enabled=false"
            ) from error
        self.hits = 0
        self.misses = 0

    def get(self, key: AnswerKey) -> CachedAnswer | None:
        """Look an answer up; None if it is not stored, was dropped, or is damaged."""
        try:
            answer = _decoded(self._store.get(key.digest(), retry=True))
        except (msgspec.MsgspecError, ValueError, TypeError, *_STORE_ERRORS):
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
        )
        try:
            self._store.set(key.digest(), msgspec.msgpack.encode(stored), retry=True)
        except _STORE_ERRORS as error:
            _log.warning("inference cache '%s' did not take an answer: %s", self._store.directory, error)

    def close(self) -> None:
        """Close the files of the store."""
        self._store.close()


def _decoded(value: object) -> CachedAnswer | None:
    if not isinstance(value, bytes):
        return None
    stored = msgspec.msgpack.decode(value, type=_Stored)
    detections = Detections.of(
        np.frombuffer(stored.boxes_xyxy, "<f4"),
        np.frombuffer(stored.scores, "<f4"),
        np.frombuffer(stored.labels, "<i8"),
    )
    return CachedAnswer(stored.payload_bytes, detections)
