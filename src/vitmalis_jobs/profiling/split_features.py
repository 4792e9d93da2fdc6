"""Features of a transformer as a device would send them to a server: at each split, coded and decoded."""

from __future__ import annotations

import statistics
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vitmalis.codec.jpeg import decode_jpeg, encode_jpeg
from vitmalis.detector import Detector
from vitmalis.detector.vit import ViT
from vitmalis.matching import Counts, match
from vitmalis.types import Detections, RgbImage
from vitmalis_jobs.common.timing import timed

STEM, NOWHERE = "stem", "nowhere"
ZLIB_LEVEL = 6
Features = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Coding:
    """A way to send features (tokens, channels) as bytes."""

    encode: Callable[[Features], bytes]
    decode: Callable[[bytes, tuple[int, int]], Features]


def encode_fp16(features: Features) -> bytes:
    """Round to fp16, separate the high bytes of all numbers from the low ones, and compress."""
    numbers = np.ascontiguousarray(features.T, np.float16)
    return zlib.compress(numbers.view(np.uint8).reshape(-1, 2).T.tobytes(), ZLIB_LEVEL)


def decode_fp16(data: bytes, shape: tuple[int, int]) -> Features:
    """Decode what `encode_fp16` made of features of this shape."""
    pairs = np.frombuffer(zlib.decompress(data), np.uint8).reshape(2, -1).T
    return np.ascontiguousarray(pairs).view(np.float16).reshape(shape[::-1]).T.astype(np.float32)


def encode_int8(features: Features) -> bytes:
    """Round to 127 steps up to the largest magnitude of each channel, either sign, and compress."""
    scales = np.maximum(np.abs(features).max(axis=0) / 127, np.finfo(np.float32).tiny).astype(np.float32)
    steps = np.rint(features / scales).astype(np.int8)
    return scales.tobytes() + zlib.compress(steps.T.tobytes(), ZLIB_LEVEL)


def decode_int8(data: bytes, shape: tuple[int, int]) -> Features:
    """Decode what `encode_int8` made of features of this shape."""
    scales = np.frombuffer(data[: 4 * shape[1]], np.float32)
    steps = np.frombuffer(zlib.decompress(data[4 * shape[1] :]), np.int8).reshape(shape[::-1]).T
    return steps * scales


CODINGS = {"fp16": Coding(encode_fp16, decode_fp16), "int8": Coding(encode_int8, decode_int8)}
"""Codings of features by name; all end with zlib."""


@dataclass(slots=True)
class Payload:
    """What is sent at one split in one coding, over the frames of all clips.

    Attributes:
        split: where the model is split: `NOWHERE`, `STEM`, or the block after which it is.
        part: how many of the parts before the splits the device computes: 0 for a JPEG, 1 for the stem, and so on.
        coding: of features, or of a JPEG.
        sizes: bytes of each frame.
        encode_ms: time of encoding each frame on this machine.
        counts: matches of the boxes with the full model's.
    """

    split: str
    part: int
    coding: str
    sizes: list[int] = field(default_factory=list)
    encode_ms: list[float] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)

    def add(self, data: bytes, encode_s: float) -> None:
        """Add one frame as it is sent."""
        self.sizes.append(len(data))
        self.encode_ms.append(1e3 * encode_s)

    def facts(self, scale: float = 1.0) -> dict[str, Any]:
        """Size times a scale, coding time and F1, for a row of the result."""
        f1 = self.counts.f1
        return {
            "kib": round(scale * statistics.mean(self.sizes) / 1024, 1),
            "encode_ms": round(statistics.median(self.encode_ms), 2),
            "f1": None if f1 is None else round(f1, 4),
        }


def empty_payloads(vit: ViT, qualities: Sequence[int]) -> list[Payload]:
    """JPEGs of each quality, then features of each coding at each split, before any frame is sent."""
    jpegs = [Payload(NOWHERE, 0, f"JPEG {quality}") for quality in qualities]
    return jpegs + [
        Payload(split, part, coding) for part, split in enumerate(split_modules(vit), start=1) for coding in CODINGS
    ]


def split_modules(vit: ViT) -> dict[str, nn.Module]:
    """The modules after which the transformer is split, by name: its stem and each global block."""
    return {STEM: vit.patch_embed} | {f"block {index + 1}": vit.blocks[index] for index in vit.config.global_blocks}


def send_frame(detector: Detector, image: RgbImage, payloads: Sequence[Payload]) -> None:
    """Detect objects in what a server would receive of a frame, and add it to each payload."""
    vit = detector.model.backbone.vit
    reference = detector.detect(image)
    for payload in payloads:
        if payload.split == NOWHERE:
            found = _detect_in_jpeg(detector, image, payload)
        else:
            with _sent_after(split_modules(vit)[payload.split], payload):
                found = detector.detect(image)
        payload.counts += match(found, reference)


def _detect_in_jpeg(detector: Detector, image: RgbImage, payload: Payload) -> Detections:
    data, encode_s = timed(encode_jpeg, image, int(payload.coding.split()[1]))
    payload.add(data, encode_s)
    return detector.detect(decode_jpeg(data, image.shape[0] * image.shape[1]))


@contextmanager
def _sent_after(module: nn.Module, payload: Payload) -> Iterator[None]:
    """Send what a module returns, in the block: what follows computes with the decoded features."""
    coding = CODINGS[payload.coding]

    def send(_: nn.Module, __: object, output: Tensor) -> Tensor:
        features = output.float().cpu().numpy().reshape(-1, output.shape[-1])
        data, encode_s = timed(coding.encode, features)
        payload.add(data, encode_s)
        received = torch.from_numpy(coding.decode(data, (features.shape[0], features.shape[1])))
        return received.reshape(output.shape).to(output)

    handle = module.register_forward_hook(send)
    try:
        yield
    finally:
        handle.remove()
