"""A server whose model is a stub that takes the time of a latency table: for tests of clients without the model."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from vitmalis.detector.base_detector import BaseDetector
from vitmalis.estimation import LatencyTables
from vitmalis.regions import ModelGeometry
from vitmalis.server.endpoint import ServerEndpoint
from vitmalis.server.service import Service
from vitmalis.types import BoolMask, Detections

_MAX_MESSAGE_BYTES = 16 * 2**20


class SleepingDetector(BaseDetector):
    """A detector without a model: it takes the time of a latency table, and finds the same boxes in every frame.

    Args:
        tables: its inference times.
        boxes: what it finds.
        geometry: of the model that it stands for.
        name: that clients are given.
    """

    model_id = "stub"

    def __init__(self, tables: LatencyTables, boxes: Detections, geometry: ModelGeometry, name: str) -> None:
        self._tables, self._boxes = tables, boxes
        self.geometry, self.name = geometry, name

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

    def _after(self, downsampled_regions: int, restoration_point: int) -> Detections:
        time.sleep(self._tables.inference_s([downsampled_regions], [restoration_point])[0])
        return self._boxes


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
