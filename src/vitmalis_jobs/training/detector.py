"""Train the embedded detector: `python -m training.detector` (configuration: conf/train_detector.yaml).

The files of a run lie in `train.folder`. Started again, the job continues from the last checkpoint there, with the same
images in the same order. The moving average of the weights is evaluated on the validation sets every
`train.evaluate_every_s`, and the best one is exported.
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
from vitmalis.detector.base import DetectionModel
from vitmalis_jobs.common.checks import check_writable
from vitmalis_jobs.common.cli import hydra_job
from vitmalis_jobs.common.config import checked, flatten
from vitmalis_jobs.common.mlflow_store import Store
from vitmalis_jobs.training.detection.config import DetectorTrainingConfig, StartOptions
from vitmalis_jobs.training.detection.monitor import TrainingMonitor
from vitmalis_jobs.training.detection.state import TrainingState
from vitmalis_jobs.training.detection.street_frames import read_street
from vitmalis_jobs.training.detection.trainer import train
from vitmalis_jobs.training.detection.training_data import FRAME_SIZE, read_clips, training_stream, validation_sets

log = logging.getLogger(__name__)


def initial_model(model: str, start: StartOptions) -> DetectionModel:
    """The model that a new run starts from: random, or with the weights and the geometry that `start` names.

    Raises:
        UserError: no such model, or weights that do not fit it.
    """
    built = build_model(preset(model).with_geometry(start.window, start.downsampling_factor))
    if start.weights is not None:
        state, _ = load_checkpoint(Path(start.weights))
        load_into(built, state, start.weights)
    return built


def initial_state(config: DetectorTrainingConfig) -> TrainingState:
    """The state of a new run, or that of the last checkpoint in `train.folder`."""
    options = config.train
    torch.manual_seed(options.seed)
    model = initial_model(config.model.name, config.start)
    state = TrainingState.fresh(model, options.learning_rate, options.weight_decay, options.muon)
    checkpoint = Path(options.folder) / "last.pt"
    if checkpoint.exists():
        state.restore(checkpoint)
        log.info("continuing from step %d (%.2f h)", state.step, state.seconds / 3600)
    return state


def train_detector(config: DetectorTrainingConfig) -> None:
    """Train as configured, from the last checkpoint in `train.folder` if there is one."""
    folder = Path(config.train.folder)
    check_writable(folder, Path(config.export.path).parent)
    torch.set_num_threads(config.train.threads)
    cv2.setNumThreads(1)
    state = initial_state(config)
    clips, street = read_clips(config.clips), read_street(config.street, FRAME_SIZE)
    sets, stream = validation_sets(config, clips, street), training_stream(config, clips, street)
    store = Store(config.mlflow.tracking_uri, config.mlflow.experiment, Path(config.mlflow.artifact_dir))
    values = msgspec.to_builtins(config)
    OmegaConf.save(OmegaConf.create(values), folder / f"config_from_{state.step:07d}.yaml")
    with store.run(f"{config.model.name} from step {state.step}", {"job": "train_detector"}) as run:
        run.log_params(flatten(values))
        monitor = TrainingMonitor(config, state, sets, run, folder)
        train(state, stream, config.train, monitor.after_step)
        monitor.evaluate()


@hydra_job("train_detector")
def main(config: DictConfig) -> None:
    """Train the detector as the command line says."""
    train_detector(checked(config, DetectorTrainingConfig))


if __name__ == "__main__":
    sys.exit(main())
