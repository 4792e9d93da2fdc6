"""The image of the live view: the rendered frame on the left, the last offload as it was sent on the right."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vitmalis.client.view import OffloadView, View
from vitmalis.metrics import MatchRule, match
from vitmalis.regions import RegionGrid
from vitmalis.types import Detections, OffloadStatus, RgbImage
from vitmalis_jobs.run.figures.comparison_video import age_caption
from vitmalis_jobs.run.figures.panels import Panel, side_by_side, with_boxes
from vitmalis_jobs.run.figures.region_overlay import draw_as_sent


class ViewPainter:
    """Draws views.

    Args:
        grid: decision regions of the frames.
        fps: frames per second of the clip.
        rule: the score from which boxes are drawn, and how F1 is counted.
        references: the reference of each frame index; None where F1 is unknown.
    """

    def __init__(
        self, grid: RegionGrid, fps: float, rule: MatchRule, references: Sequence[Detections] | None = None
    ) -> None:
        self._grid = grid
        self._fps = fps
        self._rule = rule
        self._references = references
        self._sent: tuple[int, RgbImage] | None = None

    def waiting(self) -> RgbImage:
        """The image before the first view."""
        nothing = self._nothing()
        return side_by_side(
            [Panel(nothing, "rendered", "waiting for the first frame"), Panel(nothing, "offloaded", "")]
        )

    def draw(self, view: View) -> RgbImage:
        """Draw a view, RGB uint8 (H, W, 3)."""
        shown = with_boxes(view.image, view.detections.above(self._rule.score_threshold))
        rendered = Panel(shown, "rendered", f"{age_caption(view, view.latency_s, self._fps)}{self._f1(view)}")
        if view.offload is None:
            return side_by_side([rendered, Panel(self._nothing(), "offloaded", "nothing yet")])
        return side_by_side([rendered, Panel(self._as_sent(view.offload), "offloaded", _offload_caption(view.offload))])

    def _f1(self, view: View) -> str:
        if self._references is None:
            return ""
        f1 = match(view.detections, self._references[view.frame_index], self._rule).f1
        return ", nothing to find" if f1 is None else f", F1 {f1:.2f}"

    def _as_sent(self, offload: OffloadView) -> RgbImage:
        """The offloaded frame with its regions, drawn once an offload."""
        if self._sent is None or self._sent[0] != offload.offload_id:
            drawn = draw_as_sent(
                offload.image,
                self._grid,
                region_types=offload.region_types,
                downsample_mask=offload.downsample_mask,
                unsent_mask=offload.unsent_mask,
                frame_downsampling=offload.frame_downsampling,
            )
            self._sent = offload.offload_id, drawn
        return self._sent[1]

    def _nothing(self) -> RgbImage:
        return np.zeros((self._grid.height_px, self._grid.width_px, 3), np.uint8)


def _offload_caption(offload: OffloadView) -> str:
    configuration = offload.configuration
    return (
        f"frame {offload.frame_index}, tau_d {configuration.tau_d}, quality {configuration.quality}, "
        f"restoration point {configuration.restoration_point}: {_outcome(offload)}"
    )


def _outcome(offload: OffloadView) -> str:
    if offload.payload_bytes is not None and offload.e2e_latency_s is not None:
        return f"{offload.payload_bytes / 1024:.0f} KiB, E2E {offload.e2e_latency_s * 1e3:.0f} ms"
    return "in flight" if offload.status in (None, OffloadStatus.OK) else str(offload.status)
