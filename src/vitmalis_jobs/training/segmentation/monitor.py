"""What happens next to the optimisation of a mask head: evaluations on held-out scenes, and exports."""

from __future__ import annotations

import copy
import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

import msgspec
from torch import nn

from vitmalis.detector import save_checkpoint
from vitmalis.detector.fcos import FcosDetector
from vitmalis_jobs.common.mlflow_run import Run
from vitmalis_jobs.training.detection.loop_monitor import LoopMonitor
from vitmalis_jobs.training.detection.state import TrainingState
from vitmalis_jobs.training.segmentation.config import DETECTOR_SHA256, MaskTrainingConfig
from vitmalis_jobs.training.segmentation.mask_scores import MaskFrame, MaskScores, score_masks

log = logging.getLogger(__name__)


class MaskMonitor(LoopMonitor):
    """Logs, checkpoints, evaluates and exports the training of a mask head.

    Args:
        config: of the job.
        detector: with the mask head that is trained.
        detector_sha256: checksum of its weights file.
        state: of the run; its counters are read, its best score is updated.
        frames: what the moving average is evaluated on.
        run: MLflow run that curves go to.
        folder: for checkpoints.
    """

    def __init__(
        self,
        config: MaskTrainingConfig,
        detector: FcosDetector,
        detector_sha256: str,
        state: TrainingState,
        frames: Sequence[MaskFrame],
        run: Run,
        folder: Path,
    ) -> None:
        super().__init__(config.train, state, run, folder)
        self._config, self._detector, self._frames = config, detector, frames
        self._detector_sha256 = detector_sha256

    def evaluate(self) -> MaskScores:
        """Score the moving average on the held-out scenes; export it if it is the best so far."""
        self.checkpoint()
        averaged = with_mask_head(self._detector, self.state.ema)
        scores = score_masks(averaged, self._frames)
        log.info("held-out mask IoU: %s", scores)
        for name, value in dataclasses.asdict(scores).items():
            self.run.log_curve(f"held_out/{name}", [self.state.step], [value])
        if scores.true_boxes >= self.state.best:
            self.state.best = scores.true_boxes
            self._export(averaged, scores)
        self.checkpoint()
        return scores

    def _export(self, detector: FcosDetector, scores: MaskScores) -> None:
        """Write the detector with the mask head, and the mask head alone."""
        metadata = {
            "step": self.state.step,
            "train_hours": round(self.state.seconds / 3600, 3),
            "held_out_mask_iou": dataclasses.asdict(scores),
            DETECTOR_SHA256: self._detector_sha256,
            "config": msgspec.to_builtins(self._config),
        }
        alone = nn.ModuleDict({"mask_head": self.state.ema})
        save_checkpoint(detector, Path(self._config.export.path), metadata)
        save_checkpoint(alone, Path(self._config.export.mask_head), metadata)
        log.info("exported step %d to %s", self.state.step, self._config.export.mask_head)


def with_mask_head(detector: FcosDetector, head: nn.Module) -> FcosDetector:
    """The detector, in evaluation mode, with another mask head."""
    changed = copy.copy(detector)
    changed._modules = {**detector._modules, "mask_head": head}
    return changed.eval()
