"""A server process with a detector that is exact: `python -m tests.server.blob_server [ADDRESS]`."""

from __future__ import annotations

import logging
import sys
import threading

import numpy as np

from vitmalis.process import exit_on_stdin_eof
from vitmalis.regions import ModelGeometry
from vitmalis.server.endpoint import ServerEndpoint
from vitmalis.server.service import Service
from vitmalis.server.serving import serve
from vitmalis.types import BoolMask, Detections, RgbImage

GEOMETRY = ModelGeometry(window=5, factor=2, patch_px=16, restoration_points=4)


class BlobDetector:
    """Finds the bounding box of all red pixels and calls it a person; fails on a green image.

    In a blue image it finds a box of score 2, which cannot be sent. Of a packed frame it reports the size only.

    Attributes:
        entered: set when an inference begins.
        batches: sizes of the batches of more than one frame.
        gate: while it is cleared, inference waits (tests of queues).
        forgets_last: whether the last frame of a batch gets no detections.
        batches_any_masks: whether frames of different numbers of patches make a batch.
    """

    name = "blob"
    model_id = "blob-1"
    geometry = GEOMETRY

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.batches: list[int] = []
        self.forgets_last = self.batches_any_masks = False

    def detect(self, image: RgbImage) -> Detections:
        self.entered.set()
        self.gate.wait()
        red, green = image[..., 0].astype(int), image[..., 1].astype(int)
        if (green - red > 100).all():
            raise RuntimeError("green is not supported")
        if (image[..., 2].astype(int) - red > 100).all():
            return Detections.of([[0, 0, 1, 1]], [2.0], [0])
        rows, cols = np.nonzero(red - green > 100)
        if not len(rows):
            return Detections.empty()
        return Detections.of([[cols.min(), rows.min(), cols.max() + 1, rows.max() + 1]], [0.9], [0])

    def detect_patches(
        self, patches: np.ndarray, image_size: tuple[int, int], downsample_mask: BoolMask, restoration_point: int
    ) -> Detections:
        return Detections.of([[0, 0, image_size[1], image_size[0]]], [0.9], [0])

    def detect_each(self, images: list[RgbImage]) -> list[Detections]:
        self.batches.append(len(images))
        return [self.detect(image) for image in images][: -1 if self.forgets_last else None]

    def detect_patches_each(
        self, patches: list[np.ndarray], image_size: tuple[int, int], downsample_masks: list[BoolMask], point: int
    ) -> list[Detections]:
        self.batches.append(len(patches))
        return [
            self.detect_patches(own, image_size, mask, point)
            for own, mask in zip(patches, downsample_masks, strict=True)
        ]


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    exit_on_stdin_eof()
    with ServerEndpoint(sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:0", 2**20) as endpoint:
        sys.exit(serve(Service(endpoint, BlobDetector()), endpoint, model="blob", model_id="blob-1"))
