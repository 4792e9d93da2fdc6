"""Train the embedded detector: `python -m training.detector` (configuration: conf/train_detector.yaml).

A run lives in `train.folder`. Started again, it goes on where its last checkpoint stands, with the same pictures in the
same order. The moving average is judged on held-out frames every `train.evaluate_every_s`; the best one is exported.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import hydra
import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from vitmalis.detector import build_model, load_checkpoint, load_into, preset, save_checkpoint
from vitmalis.detector.base import DetectionModel
from vitmalis.detector.fcos import FcosDetector
from vitmalis.errors import UserError
from vitmalis.paths import cache_dir
from vitmalis.video.standin import StreetScene
from vitmalis_jobs.common.config import conf_dir
from vitmalis_jobs.common.mlflow_store import Run, Store
from vitmalis_jobs.training.detection.calibration import best_threshold, calibrated
from vitmalis_jobs.training.detection.clips import ClipParts, original_video, prepare_clip
from vitmalis_jobs.training.detection.scores import Scores
from vitmalis_jobs.training.detection.state import TrainingState
from vitmalis_jobs.training.detection.stream import RenderedSource, Scene, Stage, TrainingStream
from vitmalis_jobs.training.detection.trainer import Schedule, train
from vitmalis_jobs.training.detection.validation_set import HeldOutSet, clip_set, judge, rendered_set

log = logging.getLogger(__name__)

FRAME_SIZE = (960, 540)


def read_clips(config: DictConfig) -> list[ClipParts]:
    """The clips that `clips.weights` names, decoded and labelled."""
    folder, cache = Path(config.clips.folder), cache_dir()
    parts = []
    for name in config.clips.weights:
        video = original_video(name, folder, cache)
        parts.append(prepare_clip(name, video, folder / "labels" / f"{name}.csv", cache / "detector_training"))
    return parts


@dataclass(frozen=True)
class SceneMaker:
    """Makes rendered scenes of one frame rate; can be sent to a worker process."""

    fps: float

    def __call__(self, profile: str, seed: int) -> Scene:
        """Scene of a profile and a seed, `FRAME_SIZE` pixels."""
        return StreetScene(profile, seed, *FRAME_SIZE, self.fps)


def make_stream(config: DictConfig, clips: list[ClipParts]) -> TrainingStream:
    """The training images that the configuration describes."""
    rendered = None
    if config.rendered.share > 0:
        rendered = RenderedSource(
            SceneMaker(config.rendered.fps),
            tuple(config.rendered.profiles),
            config.rendered.first_seed,
            config.rendered.frames_per_scene,
        )
    stages = tuple(
        Stage(stage.until, stage.batch, tuple(tuple(size) for size in stage.sizes), tuple(stage.scales))
        for stage in config.stages
    )
    return TrainingStream(
        clips={parts.name: parts.train for parts in clips},
        weights=dict(config.clips.weights),
        rendered=rendered,
        rendered_share=config.rendered.share,
        views_per_frame=config.rendered.views_per_frame,
        stages=stages,
        seed=config.train.seed,
    )


def make_held_out(config: DictConfig, clips: list[ClipParts]) -> list[HeldOutSet]:
    """The frames that the configuration judges by."""
    sets = [clip_set(parts, config.held_out.frames_per_clip) for parts in clips]
    if config.rendered.share > 0:
        make, count = SceneMaker(config.rendered.fps), config.held_out.frames_per_profile
        sets += [rendered_set(make, profile, count) for profile in config.rendered.profiles]
    return sets


def make_schedule(config: DictConfig) -> Schedule:
    """How to optimise."""
    settings = config.train
    if (settings.hours is None) == (settings.steps is None):
        raise UserError(f"train.hours={settings.hours} and train.steps={settings.steps}: give one and null the other")
    return Schedule(**{f.name: settings[f.name] for f in dataclasses.fields(Schedule)})


def make_model(config: DictConfig) -> DetectionModel:
    """The model that a new run starts from: fresh, or with the weights and the windows that `start` names.

    Raises:
        UserError: no such model, or weights that do not fit it.
    """
    model = build_model(preset(config.model).with_window(config.start.window))
    if config.start.weights is not None:
        state, _ = load_checkpoint(Path(config.start.weights))
        load_into(model, state, config.start.weights)
    return model


@dataclass
class TrainingMonitor:
    """What happens beside the optimisation: log lines, metrics, checkpoints, evaluations, exports."""

    config: DictConfig
    state: TrainingState
    sets: list[HeldOutSet]
    run: Run
    folder: Path
    _sums: dict[str, float] = field(default_factory=dict)
    _count: int = 0
    _began: float = field(default_factory=time.monotonic)
    _saved: float = field(default_factory=time.monotonic)
    _judged: float = field(default_factory=time.monotonic)

    def after_step(self, losses: dict[str, float], progress: float) -> None:
        """Called after every batch."""
        self._count += 1
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        settings, now = self.config.train, time.monotonic()
        if self.state.step % settings.log_every_steps == 0:
            self._report(progress)
        if now - self._saved >= settings.checkpoint_every_s:
            self.checkpoint()
        if now - self._judged >= settings.evaluate_every_s:
            self.judge()

    def _report(self, progress: float) -> None:
        means = {name: total / self._count for name, total in self._sums.items()}
        left_s = self.state.seconds / max(progress, 1e-6) * (1 - progress)
        log.info(
            "step %6d  %5.1f %%  left %4.0f min  %s",
            self.state.step,
            100 * progress,
            left_s / 60,
            "  ".join(f"{name} {value:.4f}" for name, value in means.items()),
        )
        for name, value in means.items():
            self.run.log_curve(f"train/{name}", [self.state.step], [value])
        self._sums, self._count = {}, 0

    def checkpoint(self) -> None:
        """Save the state."""
        self.state.save(self.folder / "last.pt")
        self._saved = time.monotonic()

    def judge(self) -> dict[str, Scores]:
        """Score the moving average; keep and export it if it is the best yet."""
        assert isinstance(self.state.ema, FcosDetector)
        pictures = self.folder / "pictures" / f"{self.state.step:07d}"
        threads = torch.get_num_threads()
        scores = judge(self.state.ema, self.sets, pictures)
        torch.set_num_threads(threads)
        for name, of_set in scores.items():
            log.info("held out %-18s %s", name, line(of_set))
            for key in ("f1", "ap50", "best_f1", "best_score", "precision", "recall"):
                value = float(getattr(of_set, key))
                if math.isfinite(value):
                    self.run.log_curve(f"{name}/{key}", [self.state.step], [value])
        for path in sorted(pictures.glob("*.jpg")):
            self.run.log_artifact(path, f"held_out/{self.state.step:07d}")
        total = float(np.mean([s.best_f1 for s in scores.values()]))
        self.run.log_curve("held_out/best_f1", [self.state.step], [total])
        log.info("held out mean best F1 %.3f (best so far %.3f)", total, self.state.best)
        if total >= self.state.best:
            self.state.best = total
            self.export(scores)
        self.checkpoint()
        self._judged = time.monotonic()
        return scores

    def export(self, scores: dict[str, Scores]) -> None:
        """Write the moving average, calibrated, to the run's folder and to where the library looks for it."""
        assert isinstance(self.state.ema, FcosDetector)
        threshold = best_threshold(scores.values())
        metadata = {
            "step": self.state.step,
            "train_hours": round(self.state.seconds / 3600, 3),
            "calibrated_from_score": threshold,
            "held_out_best_f1": {name: of_set.best_f1 for name, of_set in scores.items()},
            "config": OmegaConf.to_container(self.config, resolve=True),
        }
        model = calibrated(self.state.ema, threshold)
        for path in (self.folder / "best.pt", Path(self.config.export.path)):
            save_checkpoint(model, path, metadata)
        log.info("exported step %d to %s, score %.2f became 0.5", self.state.step, self.config.export.path, threshold)


def line(scores: Scores) -> str:
    """Scores for a log."""
    return (
        f"F1 {scores.f1:.3f} (P {scores.precision:.3f} R {scores.recall:.3f})  AP50 {scores.ap50:.3f}  "
        f"best F1 {scores.best_f1:.3f} at {scores.best_score:.2f}  {scores.objects} objects in {scores.frames} frames"
    )


def run_training(config: DictConfig) -> None:
    """Train as configured, resuming what lies in `train.folder`."""
    folder = Path(config.train.folder)
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(config.train.threads)
    cv2.setNumThreads(1)
    torch.manual_seed(config.train.seed)
    plan, clips = make_schedule(config), read_clips(config)
    state = TrainingState.fresh(make_model(config), plan.learning_rate, plan.weight_decay, config.train.muon)
    if (folder / "last.pt").exists():
        state.restore(folder / "last.pt")
        log.info("going on from step %d (%.2f h)", state.step, state.seconds / 3600)
    OmegaConf.save(config, folder / f"config_from_{state.step:07d}.yaml", resolve=True)
    stream = make_stream(config, clips)
    store = Store(config.mlflow.tracking_uri, config.mlflow.experiment, Path(config.mlflow.artifact_dir))
    with store.run(f"{config.model} from step {state.step}", {"job": "train_detector"}) as run:
        run.log_params(_flat(OmegaConf.to_container(config, resolve=True)))
        watch = TrainingMonitor(config, state, make_held_out(config, clips), run, folder)
        train(state, stream, plan, watch.after_step)
        watch.judge()


def _flat(value: Any, prefix: str = "") -> dict[str, object]:
    if not isinstance(value, dict):
        return {prefix: value}
    return {k: v for key, item in value.items() for k, v in _flat(item, f"{prefix}.{key}" if prefix else key).items()}


@hydra.main(version_base=None, config_path=str(conf_dir()), config_name="train_detector")
def main(config: DictConfig) -> None:
    """Entry point."""
    try:
        run_training(config)
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
