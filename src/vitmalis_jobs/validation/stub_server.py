"""A server whose model is a stub that takes the time of a latency table: for tests of clients without the model."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from vitmalis.estimation import LatencyTables
from vitmalis.regions import ModelGeometry
from vitmalis.server.endpoint import ServerEndpoint
from vitmalis.server.service import Service
from vitmalis.types import BoolMask, Detections

_MAX_MESSAGE_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class SleepingDetector:
    """A detector without a model: it takes the time of a latency table, and finds the same boxes in every frame.

    Attributes:
        tables: its inference times.
        boxes: what it finds.
        geometry: of the model that it stands for.
        name, model_id: that clients are given.
        batches_any_masks: whether frames of different numbers of patches make a batch.
    """

    tables: LatencyTables
    boxes: Detections
    geometry: ModelGeometry
    name: str
    model_id: str = "stub"
    batches_any_masks: bool = False

    def detect(self, image: object) -> Detections:
        """Sleep as long as a plain frame takes."""
        return self._after(0, 0)

    def detect_patches(
        self,
        patches: object,
        image_size: tuple[int, int],
        downsample_mask: BoolMask,
        restoration_point: int,
    ) -> Detections:
        """Sleep as long as a frame with so many regions of low resolution takes."""
        return self._after(int(downsample_mask.sum()), restoration_point)

    def detect_each(self, images: Sequence[object]) -> list[Detections]:
        """Treat several frames one after the other."""
        return [self.detect(image) for image in images]

    def detect_patches_each(
        self,
        patches: Sequence[object],
        image_size: tuple[int, int],
        downsample_masks: Sequence[BoolMask],
        restoration_point: int,
    ) -> list[Detections]:
        """Treat several frames one after the other."""
        return [
            self.detect_patches(own, image_size, mask, restoration_point)
            for own, mask in zip(patches, downsample_masks, strict=True)
        ]

    def _after(self, downsampled_regions: int, restoration_point: int) -> Detections:
        time.sleep(self.tables.inference_s([downsampled_regions], [restoration_point])[0])
        return self.boxes


@contextmanager
def stub_server(detector: SleepingDetector) -> Iterator[str]:
    """Serve a stub in a thread of this process; yields its address."""
    with ServerEndpoint("tcp://127.0.0.1:0", _MAX_MESSAGE_BYTES) as endpoint:
        service = Service(endpoint, detector)
        service.warm_up()
        thread = threading.Thread(target=service.run, name="server")
        thread.start()
        try:
            yield endpoint.address
        finally:
            service.stop()
            thread.join()
            service.close()
