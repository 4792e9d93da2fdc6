"""AccMPEG's idea (Du et al., MLSys 2022): macroblocks that matter to the detector have a higher quality than others."""

from __future__ import annotations

import numpy as np

from vitmalis.codec.macroblocks import MACROBLOCK_PX, macroblock_shape
from vitmalis.errors import UserError
from vitmalis.offload import OffloadDecision
from vitmalis.policy.base import ClientState
from vitmalis.policy.trackb2b import TrackB2B
from vitmalis.types import BoolMask, Detections


class AccMPEG(TrackB2B):
    """TrackB2B that codes macroblocks away from the known objects at a lower quality.

    A frame without known objects has the higher quality everywhere, so that objects are found. What AccMPEG has and
    this policy has not is in docs/field.md.

    Args:
        quality: JPEG quality of the macroblocks at objects, 1..100.
        coarse_quality: JPEG quality of all others, less than `quality`.
        margin: macroblocks around each object that have the higher quality, too.

    Raises:
        UserError: an argument is out of range.
    """

    uses_objects = True

    def __init__(self, quality: int = 95, coarse_quality: int = 30, margin: int = 2) -> None:
        super().__init__(quality)
        if not 1 <= coarse_quality < quality:
            raise UserError(f"policy.coarse_quality={coarse_quality}: give a whole number from 1 to below {quality}")
        if margin < 0:
            raise UserError(f"policy.margin={margin}: give a number of macroblocks that is not negative")
        self._coarse_quality, self._margin = coarse_quality, margin

    def decide(self, state: ClientState) -> OffloadDecision:
        """Choose the higher quality at the known objects, the lower one elsewhere."""
        coarse = ~object_macroblocks(state.tracked, *state.frame_size, self._margin)
        if coarse.all() or not coarse.any():
            return self._decision
        configuration = self._decision.configuration
        return OffloadDecision(configuration, coarse_mask=coarse, coarse_quality=self._coarse_quality)


def object_macroblocks(objects: Detections, width_px: int, height_px: int, margin: int) -> BoolMask:
    """Macroblocks of a frame that a box overlaps, and those at most `margin` around them: bool (rows, cols)."""
    salient = np.zeros(macroblock_shape(width_px, height_px), bool)
    for left, top, right, bottom in objects.boxes_xyxy / MACROBLOCK_PX:
        first_row, first_col = (max(int(np.floor(start)) - margin, 0) for start in (top, left))
        end_row, end_col = (max(int(np.ceil(end)) + margin, 0) for end in (bottom, right))
        salient[first_row:end_row, first_col:end_col] = True
    return salient
