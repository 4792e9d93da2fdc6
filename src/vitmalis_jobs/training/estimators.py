"""Train the estimators of payload size and accuracy: `python -m training.estimators` (conf/train_estimators.yaml).

Reads the samples of `python -m profiling.samples`, searches the MLPs with Optuna (an interrupted search continues),
fits the paper's two baselines, evaluates all on held-out samples (the paper's Table II) and exports them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import torch
from omegaconf import DictConfig

from vitmalis.detector import load_any_detector, model_config
from vitmalis.errors import UserError
from vitmalis.estimation.estimators import Target
from vitmalis_jobs.common.checks import check_writable
from vitmalis_jobs.common.cli import hydra_job
from vitmalis_jobs.common.config import checked, flatten
from vitmalis_jobs.common.mlflow_store import Store
from vitmalis_jobs.training import estimation
from vitmalis_jobs.training.estimation.config import EstimatorTrainingConfig
from vitmalis_jobs.training.estimation.estimator_training import EstimatorTraining
from vitmalis_jobs.training.estimation.sample_set import read_samples, sample_set

TARGETS: tuple[Target, ...] = ("payload_bytes", "f1")


SHIPPED = "shipped"
SHIPPED_SAMPLES = Path(estimation.__file__).parent / "samples" / "96192a333d71"
"""Samples of a few frames of the clips that come with the project, by vitdet_tiny: to try the job in a minute."""


def samples_folder(config: EstimatorTrainingConfig) -> tuple[Path, str]:
    """Folder of the samples, and the id of the model that they were made with: the folder's name.

    Raises:
        UserError: `samples.folder` is not given and the model cannot be loaded, or it is "shipped" for another model.
    """
    if config.samples.folder == SHIPPED:
        if config.model.name != "vitdet_tiny":
            raise UserError(f"samples.folder={SHIPPED}: these are of vitdet_tiny, not of {config.model.name}")
        return SHIPPED_SAMPLES, SHIPPED_SAMPLES.name
    if config.samples.folder is not None:
        return Path(config.samples.folder), Path(config.samples.folder).name
    model_id = load_any_detector(config.model.name, **config.model.detector_options).model_id
    return Path("runs/profiling/samples") / model_id, model_id


def train_estimators(config: EstimatorTrainingConfig) -> str:
    """Train as configured; return the tables."""
    torch.set_num_threads(1)
    folder, model_id = samples_folder(config)
    geometry = model_config(config.model.name, **config.model.architecture).geometry
    samples = read_samples(folder)
    sets = {target: sample_set(samples, target) for target in TARGETS}
    check_writable(Path(config.search.folder), Path(config.export.folder))
    store = Store(config.mlflow.tracking_uri, config.mlflow.experiment, Path(config.mlflow.artifact_dir))
    tags = {"job": "train_estimators", "model": config.model.name, "model_id": model_id}
    with store.run(f"estimators of {config.model.name}", tags) as run:
        run.log_params(flatten({"search": msgspec.to_builtins(config.search)}))
        training = EstimatorTraining(config, model_id, geometry, run)
        for target in TARGETS:
            training.train(sets[target])
        return training.report(sets["f1"])


@hydra_job(
    "train_estimators",
    {
        "": "the samples of this model, or those that come with the package (a minute)",
        "search.trials=5 samples.folder=runs/profiling/samples/ID": "a shorter search on samples of your own",
    },
)
def main(config: DictConfig) -> None:
    """Train the estimators as the command line says, and print the tables."""
    print(train_estimators(checked(config, EstimatorTrainingConfig)))


if __name__ == "__main__":
    sys.exit(main())
