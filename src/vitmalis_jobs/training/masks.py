"""Train the mask head of the embedded detector: `python -m training.masks` (configuration: conf/train_masks.yaml).

Boxes stay as they are: the rest of the detector is frozen, and comes from the weights in the package or from those of
`start.weights=<file>`. The files of a run lie in `train.folder`. Started again, the job continues from the last
checkpoint there, and refuses settings that would change what is learned. The moving average of the weights is evaluated
on held-out scenes every `train.evaluate_every_s`, and the best one is exported.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import cv2
import msgspec
import torch
from omegaconf import DictConfig, OmegaConf

from vitmalis.detector import build_model, load_checkpoint, load_into, preset
from vitmalis.detector.config import FcosConfig
from vitmalis.detector.detector import weights_digest, weights_files, weights_path
from vitmalis.detector.fcos import FcosDetector
from vitmalis.detector.mask_head import MaskHead
from vitmalis.errors import UserError
from vitmalis_jobs.common.checks import check_writable
from vitmalis_jobs.common.cli import hydra_job
from vitmalis_jobs.common.config import checked, flatten
from vitmalis_jobs.common.mlflow_store import Store
from vitmalis_jobs.training.detection.config import StartOptions
from vitmalis_jobs.training.detection.run_settings import run_settings, with_content
from vitmalis_jobs.training.detection.state import TrainingState
from vitmalis_jobs.training.detection.stream import Source, TrainingStream
from vitmalis_jobs.training.detection.trainer import train_with
from vitmalis_jobs.training.detection.training_data import render_frames, scene_maker
from vitmalis_jobs.training.detector import training_device
from vitmalis_jobs.training.segmentation.config import MaskTrainingConfig
from vitmalis_jobs.training.segmentation.learner import MaskLearner
from vitmalis_jobs.training.segmentation.mask_scores import validation_frames
from vitmalis_jobs.training.segmentation.mask_targets import MaskBatches
from vitmalis_jobs.training.segmentation.monitor import MaskMonitor

log = logging.getLogger(__name__)


def frozen_detector(model: str, start: StartOptions) -> FcosDetector:
    """A trained detector whose only trainable part is a new mask head.

    Raises:
        UserError: no such model, it has no FCOS head, or weights that do not fit it.
    """
    config = preset(model).with_geometry(start.window, start.downsampling_factor)
    if not isinstance(config.head, FcosConfig):
        raise UserError(f"model={model} has no FCOS head: only mask heads of such models are trained here")
    boxes_only = build_model(config)
    path = weights_path(config, start.weights)
    if path is None:
        raise UserError(f"start.weights={start.weights}: a mask head learns from a trained detector; give its weights")
    load_into(boxes_only, load_checkpoint(path)[0], str(path))
    detector = build_model(config.with_task("instances"))
    assert isinstance(detector, FcosDetector)
    assert detector.mask_head is not None
    detector.load_state_dict(boxes_only.state_dict(), strict=False)
    detector.eval().requires_grad_(False)
    detector.mask_head.requires_grad_(True)
    return detector


def train_masks(config: MaskTrainingConfig) -> None:
    """Train as configured, from the last checkpoint in `train.folder` if there is one."""
    options, folder = config.train, Path(config.train.folder)
    check_writable(folder, *(Path(path).parent for path in (config.export.path, config.export.mask_head)))
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(1)
    device = training_device(options.device)
    torch.manual_seed(options.seed)
    detector = frozen_detector(config.model.name, config.start).to(device)
    head = detector.mask_head
    assert isinstance(head, MaskHead)
    detector_sha256 = weights_digest(weights_files(preset(config.model.name), config.start.weights))
    state = TrainingState.fresh(head, options.learning_rate, options.weight_decay)
    # Unlike a whole detector, the state does not hold the weights that it started from.
    state.settings = with_content(run_settings(config), "start.weights", detector_sha256)
    state.restore_from(folder)
    frames = validation_frames(
        scene_maker(config.rendered), config.rendered.profiles, config.held_out.frames_per_profile
    )
    store = Store(config.mlflow.tracking_uri, config.mlflow.experiment, Path(config.mlflow.artifact_dir))
    values = msgspec.to_builtins(config)
    OmegaConf.save(OmegaConf.create(values), folder / f"config_from_{state.step:07d}.yaml")
    with store.run(f"{config.model.name} masks from step {state.step}", {"job": "train_masks"}) as run:
        run.log_params(flatten(values))
        monitor = MaskMonitor(config, detector, detector_sha256, state, frames, run, folder)
        step = MaskLearner(detector, state, options).step
        train_with(step, state, MaskBatches(training_stream(config)), options, monitor.after_step)
        monitor.evaluate()


def training_stream(config: MaskTrainingConfig) -> TrainingStream:
    """The stream of views of rendered frames."""
    rendered = render_frames(config.rendered, config.train.workers)
    return TrainingStream(
        sources=(Source("rendered", rendered, 1.0),),
        stages=config.stages,
        whole_frames=config.whole_frames,
        batch_scale=1,
        seed=config.train.seed,
    )


@hydra_job(
    "train_masks",
    {
        "": "half an hour on the CPU, for the detector in the package",
        "start.weights=runs/training/vitdet_tiny/best.pt": "for a detector that was trained here",
    },
)
def main(config: DictConfig) -> None:
    """Train the mask head as the command line says."""
    train_masks(checked(config, MaskTrainingConfig))


if __name__ == "__main__":
    sys.exit(main())
