"""The server of a virtual run: decodes and infers in this process, with the code of the real server."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
from msgspec import UNSET

from vitmalis.client.header import in_captured_pixels, offload_header
from vitmalis.codec.offload import encode_offload
from vitmalis.fingerprint import DETECTORS, code_fingerprint
from vitmalis.network.wire import messages
from vitmalis.offload import OffloadDecision
from vitmalis.regions import ModelGeometry
from vitmalis.server.admission import refusal_reason
from vitmalis.server.decoding import DecodedFrame, DetectorLike, decode_offload, infer
from vitmalis.server.feedback import asked_regions
from vitmalis.server.token_cache import TokenCache, TokensLost
from vitmalis.types import BoolMask, Detections, Frame
from vitmalis.video.spec import VideoSpec
from vitmalis.virtual.cache import AnswerKey, CachedAnswer, InferenceCache


@dataclass(frozen=True, slots=True, eq=False)
class AnsweredOffload:
    """An offload as it is sent, and the server's answer.

    Attributes:
        header: the message before the JPEG.
        payload_bytes: size of the JPEG.
        detections: boxes in pixels of the captured frame.
        refusal: why the server does not serve it; empty if it does.
        asked: regions that the server asks back, bool (rows, cols); None for an offload that requests no feedback.
        tokens_cached: the server has cached the frame's tokens, as the offload asked.
    """

    header: messages.Offload
    payload_bytes: int
    detections: Detections
    refusal: str = ""
    asked: BoolMask | None = None
    tokens_cached: bool = False


class VirtualServer:
    """Answers the offloads of one client; each distinct one is encoded and inferred once, where a cache is given.

    Answers to offloads with cached tokens are not stored, as they depend on the offloads before. Tokens are cached when
    an offload is sent, a real server caches them when it serves it.

    Args:
        detector: the model that serves.
        video: the clip that is played.
        video_sha256: checksum of its file.
        cache: stores answers for other runs.
        tokens: cached for all clients of the server; None without other clients.
        client: name of this one, which its tokens are cached under.
    """

    def __init__(
        self,
        detector: DetectorLike,
        video: VideoSpec,
        video_sha256: str,
        cache: InferenceCache | None = None,
        tokens: TokenCache | None = None,
        client: bytes = b"client",
    ) -> None:
        self._detector = detector
        self._video = video
        self._video_sha256 = video_sha256
        self._cache = cache
        self._tokens, self._client = tokens or TokenCache(), client
        self._tokens.open(client)

    @property
    def geometry(self) -> ModelGeometry:
        """Geometry of the model's decision regions."""
        return self._detector.geometry

    def answer(self, offload_id: int, frame: Frame, decision: OffloadDecision) -> AnsweredOffload:
        """Encode a frame as decided, decode it and detect objects in it, unless a server refuses it.

        Raises:
            UserError: a mask does not fit the frame.
            ValueError: the decision downsamples both the frame and regions of it.
        """
        header = offload_header(offload_id, frame, decision, self.geometry)
        if known := self._known(frame, decision):
            return self._answered(header, known)
        answer = self._answer(frame, header, self._encode(frame, decision))
        if self._cache and not (decision.caching or answer.refusal):
            self._cache.put(self._key(frame, decision), CachedAnswer(answer.payload_bytes, answer.detections))
        return answer

    def copy(self) -> VirtualServer:
        """A server with the same cached tokens, whose answers leave those of this one as they are."""
        twin = copy.copy(self)
        twin._tokens = self._tokens.copy()
        return twin

    def disconnect(self) -> None:
        """Drop what is cached for the client, as a server does at the end of its connection."""
        self._tokens.forget(self._client)
        self._tokens.open(self._client)

    def _answer(self, frame: Frame, header: messages.Offload, jpeg: bytes) -> AnsweredOffload:
        """Decode an offload and detect objects in it, unless it is refused."""
        height, width = frame.image.shape[:2]
        pixels = height * width  # as a server that a run starts, whose limit is the size of its frames
        if refusal := refusal_reason(header, jpeg, self.geometry, pixels):
            return AnsweredOffload(header, len(jpeg), Detections.empty(), refusal)
        try:
            found, cached = self._infer(decode_offload(self.geometry, header, jpeg, pixels))
        except TokensLost as error:
            return AnsweredOffload(header, len(jpeg), Detections.empty(), str(error))
        return self._answered(header, CachedAnswer(len(jpeg), in_captured_pixels(found, header, frame.image)), cached)

    def _answered(self, header: messages.Offload, known: CachedAnswer, tokens_cached: bool = False) -> AnsweredOffload:
        asked = asked_regions(header, known.detections, self.geometry)
        return AnsweredOffload(header, known.payload_bytes, known.detections, asked=asked, tokens_cached=tokens_cached)

    def _infer(self, sent: DecodedFrame) -> tuple[Detections, bool]:
        """Detect in a frame; returns as well whether its tokens are cached."""
        if sent.offload.caching is UNSET:
            return infer(self._detector, [sent])[0], False
        return self._tokens.infer(self._detector, self._client, sent)

    def payload_bytes(self, frame: Frame, decision: OffloadDecision) -> int:
        """Size of the JPEG of a frame as decided, without asking the model; raises as `answer` does."""
        known = self._known(frame, decision)
        return known.payload_bytes if known else len(self._encode(frame, decision))

    def _known(self, frame: Frame, decision: OffloadDecision) -> CachedAnswer | None:
        """The stored answer; None without one, and where it depends on the offloads before."""
        return self._cache.get(self._key(frame, decision)) if self._cache and not decision.caching else None

    def _encode(self, frame: Frame, decision: OffloadDecision) -> bytes:
        height, width = frame.image.shape[:2]
        return encode_offload(frame.image, decision, self.geometry.grid(width, height)).jpeg

    def _key(self, frame: Frame, decision: OffloadDecision) -> AnswerKey:
        """Collect what the answer depends on; tau_d only matters through the mask."""
        height, width = frame.image.shape[:2]
        return AnswerKey(
            code=code_fingerprint(__name__, type(self._detector).__module__, DETECTORS),
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
            coarse_mask=_bits(decision.coarse_mask),
            coarse_quality=decision.coarse_quality,
        )


def _bits(mask: BoolMask | None) -> bytes:
    return b"" if mask is None or not mask.any() else np.packbits(mask).tobytes()
