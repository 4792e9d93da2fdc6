"""Latency tables of a faster or slower device, server or model, for studies of how much a duration matters."""

from __future__ import annotations

from typing import Annotated

import msgspec

from vitmalis.estimation.latency import EncodeTable, InferenceFit, LatencyTables
from vitmalis.estimation.stage_times import StageTimes, WholeFrame

Factor = Annotated[float, msgspec.Meta(gt=0)]


class StageFactors(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Factors on the durations of the stages; 1 leaves a stage as it is.

    Attributes:
        encode, decode, inference, tracking, motion, decision: on all durations of the stage.
        saving: on the inference time that low resolution saves of a plain frame's; below 1 where a larger share of
            inference, such as the detector's head, takes the same time whatever is downsampled.
    """

    encode: Factor = 1.0
    decode: Factor = 1.0
    inference: Factor = 1.0
    tracking: Factor = 1.0
    motion: Factor = 1.0
    decision: Factor = 1.0
    saving: Annotated[float, msgspec.Meta(ge=0)] = 1.0

    def __str__(self) -> str:
        """The factors that are not 1, as words."""
        values = msgspec.structs.asdict(self).items()
        return ", ".join(f"{stage} x {factor:g}" for stage, factor in values if factor != 1.0)

    def applied(self, tables: LatencyTables) -> LatencyTables:
        """The tables with every duration times its factor."""
        encode = tables.encode
        return msgspec.structs.replace(
            tables,
            encode=EncodeTable(
                downsampled_regions=encode.downsampled_regions,
                qualities=encode.qualities,
                encode_s=tuple(tuple(self.encode * duration_s for duration_s in row) for row in encode.encode_s),
            ),
            decode_s=self.decode * tables.decode_s,
            inference=tuple(self._fit(fit) for fit in tables.inference),
            stages=None if tables.stages is None else self._stages(tables.stages),
        )

    def _fit(self, fit: InferenceFit) -> InferenceFit:
        return msgspec.structs.replace(
            fit,
            intercept_s=self.inference * fit.intercept_s,
            slope_s=self.inference * self.saving * fit.slope_s,
            residual_s=self.inference * self.saving * fit.residual_s,
            largest_residual_s=self.inference * self.saving * fit.largest_residual_s,
        )

    def _stages(self, stages: StageTimes) -> StageTimes:
        plain_s = stages.blanked.inference_s
        return msgspec.structs.replace(
            stages,
            prepare_s=self.tracking * stages.prepare_s,
            tracking_step_s=self.tracking * stages.tracking_step_s,
            tracking_object_s=self.tracking * stages.tracking_object_s,
            motion_s=self.motion * stages.motion_s,
            estimation_s=self.decision * stages.estimation_s,
            optimization_s=self.decision * stages.optimization_s,
            downsampled=self._whole_frame(stages.downsampled, plain_s),
            blanked=self._whole_frame(stages.blanked, plain_s),
            trackers={name: times.slower(self.tracking) for name, times in stages.trackers.items()},
        )

    def _whole_frame(self, frame: WholeFrame, plain_s: float) -> WholeFrame:
        inference_s = (1 - self.saving) * plain_s + self.saving * frame.inference_s
        return WholeFrame(
            encode_s=self.encode * frame.encode_s,
            decode_s=self.decode * frame.decode_s,
            inference_s=self.inference * max(inference_s, 0.0),
        )
