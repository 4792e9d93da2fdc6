"""The header of an offload, which describes the JPEG to the server, and boxes in its pixels."""

from __future__ import annotations

from msgspec import UNSET

from vitmalis.codec.offload import sent_mask, sent_size
from vitmalis.network.wire import messages
from vitmalis.network.wire.caching import Caching
from vitmalis.network.wire.feedback import UncertainScores
from vitmalis.offload import OffloadDecision
from vitmalis.regions.grid import ModelGeometry
from vitmalis.types import Detections, Frame, RgbImage


def offload_header(
    offload_id: int, frame: Frame, decision: OffloadDecision, geometry: ModelGeometry
) -> messages.Offload:
    """Build the message that precedes the JPEG of a frame.

    Args:
        offload_id: number of the offload, from 0.
        frame: the captured frame.
        decision: how it is sent; its masks are of the frame's regions.
        geometry: of the server's model.

    Raises:
        UserError: a mask does not fit the frame.
    """
    height, width = frame.image.shape[:2]
    grid, feedback, caching = geometry.grid(width, height), decision.feedback, decision.caching
    return messages.Offload.of(
        offload_id,
        frame.index,
        sent_size(decision, grid),
        decision.configuration,
        downsample_mask=sent_mask(decision, grid),
        window_size=geometry.window,
        downsampling_factor=geometry.factor,
        feedback=UNSET if feedback is None else UncertainScores(feedback.low_score, feedback.high_score),
        caching=UNSET if caching is None else Caching.of(caching),
    )


def in_captured_pixels(detections: Detections, header: messages.Offload, image: RgbImage) -> Detections:
    """Convert boxes from pixels of the sent frame to pixels of the captured one, RGB uint8 (H, W, 3).

    The captured frame is larger where the decision made the whole frame smaller.
    """
    height, width = image.shape[:2]
    return detections.scaled(width / header.width, height / header.height)
