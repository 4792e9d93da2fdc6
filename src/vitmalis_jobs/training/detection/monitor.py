"""What happens next to the optimisation of a detector: evaluations and exports, besides log lines and checkpoints."""

from __future__ import annotations

import logging
from pathlib import Path
from statistics import fmean

import msgspec
import torch

from vitmalis.detector import save_checkpoint
from vitmalis.detector.fcos import FcosDetector
from vitmalis.errors import UserError
from vitmalis_jobs.common.mlflow_run import Run
from vitmalis_jobs.training.detection.calibration import BOTH_SIZES, best_thresholds, calibrated
from vitmalis_jobs.training.detection.config import DetectorTrainingConfig
from vitmalis_jobs.training.detection.loop_monitor import LoopMonitor
from vitmalis_jobs.training.detection.state import TrainingState
from vitmalis_jobs.training.detection.validation_set import SetScores, ValidationSet, evaluate

log = logging.getLogger(__name__)

_LOGGED_SCORES = ("f1", "ap50", "best_f1", "best_score", "precision", "recall")


class TrainingMonitor(LoopMonitor):
    """Logs, checkpoints, evaluates and exports the training of a detector.

    Args:
        config: of the job.
        state: of the run; its counters are read, its best score is updated.
        sets: what the moving average is evaluated on.
        run: MLflow run that curves and contact sheets go to.
        folder: for checkpoints, contact sheets and the best weights.
    """

    def __init__(
        self, config: DetectorTrainingConfig, state: TrainingState, sets: list[ValidationSet], run: Run, folder: Path
    ) -> None:
        super().__init__(config.train, state, run, folder)
        self.config, self.sets = config, sets

    def evaluate(self) -> dict[str, SetScores]:
        """Score the moving average on every validation set; export it if it is the best so far.

        Raises:
            UserError: no validation set holds an object, so that none can be called the best; or see `checkpoint`.
        """
        self.checkpoint()
        assert isinstance(self.state.ema, FcosDetector)
        sheets = self.folder / "contact_sheets" / f"{self.state.step:07d}"
        threads = torch.get_num_threads()
        scores = evaluate(self.state.ema, self.sets, sheets)
        torch.set_num_threads(threads)
        self._log_scores(scores, sheets)
        known = [s.full.best_f1 for s in scores.values() if s.full.best_f1 is not None]
        if not known:
            raise UserError(
                f"no validation set holds an object ({', '.join(scores) or 'there is none'}): add one that does"
            )
        mean = fmean(known)
        self.run.log_curve("held_out/best_f1", [self.state.step], [mean])
        log.info("validation mean best F1 %.3f (best so far %.3f)", mean, self.state.best)
        if mean >= self.state.best:
            self.state.best = mean
            self.export(scores)
        self.checkpoint()
        return scores

    def _log_scores(self, scores: dict[str, SetScores], sheets: Path) -> None:
        for name, of_set in scores.items():
            log.info("validation %-18s %s", name, of_set.line())
            curves: dict[str, float | None] = {key: getattr(of_set.full, key) for key in _LOGGED_SCORES}
            curves |= {"half_size_f1": of_set.half_size.f1, "halved_f1": of_set.halved_f1}
            for key, value in curves.items():
                if value is not None:
                    self.run.log_curve(f"{name}/{key}", [self.state.step], [value])
        for path in sorted(sheets.glob("*.jpg")):
            self.run.log_artifact(path, f"held_out/{self.state.step:07d}")

    def export(self, scores: dict[str, SetScores]) -> None:
        """Write the moving average, calibrated, to `export.path`."""
        assert isinstance(self.state.ema, FcosDetector)
        best = best_thresholds(list(scores.values()))[BOTH_SIZES]
        assert best is not None  # `evaluate` refuses sets without an object
        metadata = {
            "step": self.state.step,
            "train_hours": round(self.state.seconds / 3600, 3),
            "calibrated_from_score": best.threshold,
            "held_out_best_f1": {name: of_set.full.best_f1 for name, of_set in scores.items()},
            "config": msgspec.to_builtins(self.config),
        }
        save_checkpoint(calibrated(self.state.ema, best.threshold), Path(self.config.export.path), metadata)
        log.info(
            "exported step %d to %s, score %.2f became 0.5", self.state.step, self.config.export.path, best.threshold
        )
