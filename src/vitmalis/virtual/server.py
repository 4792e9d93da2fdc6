"""The server of a virtual run: the same bytes decoded by the same code for the same model, in this process."""

from __future__ import annotations

import numpy as np

from vitmalis.client.header import in_captured_pixels, offload_header
from vitmalis.codec.offload import encode_offload
from vitmalis.fingerprint import code_fingerprint
from vitmalis.offload import OffloadDecision
from vitmalis.regions import ModelGeometry
from vitmalis.server.decoding import DetectorLike, decode_offload, infer
from vitmalis.types import BoolMask, Frame
from vitmalis.video.spec import VideoSpec
from vitmalis.virtual.cache import AnswerKey, CachedAnswer, InferenceCache

MAX_PIXELS = 9_000_000
"""As the real server's."""


class VirtualServer:
    """Answers offloads of one clip; each distinct one is encoded and inferred once, where a cache is given.

    Args:
        detector: the model.
        video: the clip that is played.
        video_sha256: of its file.
        cache: keeps answers for other runs.
    """

    def __init__(
        self, detector: DetectorLike, video: VideoSpec, video_sha256: str, cache: InferenceCache | None = None
    ) -> None:
        self._detector = detector
        self._video = video
        self._video_sha256 = video_sha256
        self._cache = cache

    @property
    def geometry(self) -> ModelGeometry:
        """Of the model."""
        return self._detector.geometry

    def answer(self, frame: Frame, decision: OffloadDecision) -> CachedAnswer:
        """Size of the compressed frame and the boxes found in it, in pixels of the captured frame.

        Raises:
            ValueError: the decision does not fit the frame.
        """
        key = self._key(frame, decision)
        known = self._cache.get(key) if self._cache else None
        if known is None:
            known = self._infer(frame, decision)
            if self._cache:
                self._cache.put(key, known)
        return known

    def _infer(self, frame: Frame, decision: OffloadDecision) -> CachedAnswer:
        height, width = frame.image.shape[:2]
        encoded = encode_offload(frame.image, decision, self.geometry.grid(width, height))
        header = offload_header(0, frame, decision, self.geometry)
        (found,) = infer(self._detector, [decode_offload(self.geometry, header, encoded.jpeg, MAX_PIXELS)])
        return CachedAnswer(len(encoded.jpeg), in_captured_pixels(found, header, frame.image))

    def _key(self, frame: Frame, decision: OffloadDecision) -> AnswerKey:
        """Everything that the answer depends on; tau_d is no part of it, the mask says what it led to."""
        height, width = frame.image.shape[:2]
        return AnswerKey(
            code=code_fingerprint(__name__, type(self._detector).__module__),
            video_sha256=self._video_sha256,
            frame=self._video.start_frame + frame.index,
            width=width,
            height=height,
            model_id=self._detector.model_id,
            quality=decision.configuration.quality,
            restoration_point=decision.configuration.restoration_point,
            frame_downsampling=decision.frame_downsampling,
            downsample_mask=_bits(decision.downsample_mask),
            blank_mask=_bits(decision.blank_mask),
        )


def _bits(mask: BoolMask | None) -> bytes:
    return b"" if mask is None or not mask.any() else np.packbits(mask).tobytes()
