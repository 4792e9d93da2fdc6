"""Train the embedded detector: `python -m training.detector` (configuration: conf/train_detector.yaml).

It starts from the weights in the package, from those of `start.weights=<file>`, or with `start.weights=random` from
scratch. The files of a run lie in `train.folder`. Started again, the job continues from the last checkpoint there, with
the same images in the same order, and refuses settings that would change what is learned. The moving average of the
weights is evaluated on the validation sets every `train.evaluate_every_s`, and the best one is exported.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import cv2
import msgspec
import torch
from omegaconf import DictConfig, OmegaConf

from vitmalis.detector import build_model, checked_device, load_checkpoint, load_into, preset
from vitmalis.detector.base import DetectionModel
from vitmalis.detector.detector import EMBEDDED_WEIGHTS, weights_path
from vitmalis_jobs.common.checks import check_writable
from vitmalis_jobs.common.cli import hydra_job
from vitmalis_jobs.common.config import checked, flatten
from vitmalis_jobs.common.mlflow_store import Store
from vitmalis_jobs.training.detection.batches import Batches, CpuBatches, DeviceBatches
from vitmalis_jobs.training.detection.config import DetectorTrainingConfig, StartOptions, TrainOptions
from vitmalis_jobs.training.detection.device_frames import DeviceFrames
from vitmalis_jobs.training.detection.monitor import TrainingMonitor
from vitmalis_jobs.training.detection.run_settings import run_settings
from vitmalis_jobs.training.detection.state import TrainingState
from vitmalis_jobs.training.detection.stream import TrainingStream
from vitmalis_jobs.training.detection.street_frames import read_street
from vitmalis_jobs.training.detection.trainer import train
from vitmalis_jobs.training.detection.training_data import (
    FRAME_SIZE,
    read_clips,
    render_frames,
    training_stream,
    validation_sets,
)

log = logging.getLogger(__name__)


def initial_model(model: str, start: StartOptions) -> DetectionModel:
    """The model that a new run starts from, with the weights and the geometry that `start` names.

    Raises:
        UserError: no such model, or weights that do not fit it.
    """
    config = preset(model).with_geometry(start.window, start.downsampling_factor)
    built = build_model(config)
    known = start.weights is not None or model in EMBEDDED_WEIGHTS
    path = weights_path(config, start.weights) if known else None
    if path is not None:
        state, _ = load_checkpoint(path)
        load_into(built, state, str(path))
    return built


def initial_state(config: DetectorTrainingConfig, device: torch.device) -> TrainingState:
    """The state of a new run, or that of the last checkpoint in `train.folder`, on a device."""
    options = config.train
    torch.manual_seed(options.seed)
    model = initial_model(config.model.name, config.start).to(device)
    state = TrainingState.fresh(model, options.learning_rate, options.weight_decay, options.muon)
    state.settings = run_settings(config)
    state.restore_from(Path(options.folder))
    return state


def training_device(name: str) -> torch.device:
    """The device that trains; products of float32 numbers on a GPU take TensorFloat-32, as PyTorch's convolutions do.

    Raises:
        UserError: this machine has no such device.
    """
    device = checked_device(name, "train.device")
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    torch.backends.cudnn.conv.fp32_precision = "tf32"  # type: ignore[attr-defined]  # the stubs lack it
    log.info("training on %s", device)
    return device


def training_batches(stream: TrainingStream, options: TrainOptions, device: torch.device) -> Batches:
    """Where training images are computed: by OpenCV in worker processes, or on a device other than the CPU, there."""
    if device.type == "cpu":
        return CpuBatches(stream, options.workers)
    return DeviceBatches(stream, options.workers, DeviceFrames.load(stream.frames, device, max(1, options.workers)))


def train_detector(config: DetectorTrainingConfig) -> None:
    """Train as configured, from the last checkpoint in `train.folder` if there is one."""
    folder = Path(config.train.folder)
    check_writable(folder, Path(config.export.path).parent)
    torch.set_num_threads(config.train.threads)
    cv2.setNumThreads(1)
    device = training_device(config.train.device)
    state = initial_state(config, device)
    clips, street = read_clips(config.clips), read_street(config.street, FRAME_SIZE)
    sets = validation_sets(config, clips, street)
    stream = training_stream(config, clips, street, render_frames(config.rendered, config.train.workers))
    batches = training_batches(stream, config.train, device)
    store = Store(config.mlflow.tracking_uri, config.mlflow.experiment, Path(config.mlflow.artifact_dir))
    values = msgspec.to_builtins(config)
    OmegaConf.save(OmegaConf.create(values), folder / f"config_from_{state.step:07d}.yaml")
    with store.run(f"{config.model.name} from step {state.step}", {"job": "train_detector"}) as run:
        run.log_params(flatten(values))
        monitor = TrainingMonitor(config, state, sets, run, folder)
        train(state, batches, config.train, monitor.after_step)
        monitor.evaluate()


@hydra_job(
    "train_detector",
    {
        "": "an hour on the CPU, from the weights in the package",
        "start.weights=random model=vitdet_b train.device=cuda train.hours=8": "another model from scratch, on a GPU",
    },
)
def main(config: DictConfig) -> None:
    """Train the detector as the command line says."""
    train_detector(checked(config, DetectorTrainingConfig))


if __name__ == "__main__":
    sys.exit(main())
