"""What an experiment says about itself in MLflow: a note for readers, its kind, and which names its metrics have."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vitmalis_jobs.common.metric_migration import rename_metrics

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

NOTE = "mlflow.note.content"
KIND = "mlflow.experimentKind"
MACHINE_LEARNING = "custom_model_development"
"""MLflow's word for experiments whose pages are about runs and metrics, without those for language models."""
METRIC_NAMES, CURRENT_NAMES = "vitmalis.metric_names", "sections"
"""Tag of an experiment whose metrics are named by `metric_names`, and its value."""

NOTES = {
    "evaluation": """\
Each run plays one **clip** over one **trace** (uplink capacity over time) under one offloading **policy**, and is \
scored by what a user sees. A sweep (`evaluate.py -m`) is a run with its runs below it.

- `f1/rendering`: F1 of the boxes shown on all frames, against the full-resolution model's: **the score of a policy**
- `f1/inference`: F1 of the server's results on the frames they were computed for: what low resolution costs
- `latency/...`: from capture to result (`e2e`) and its stages; `offload/...`: each offload, over its frame's number
- `traffic/...`, `frames/...`, `policy/...`, `run/...`: what was sent, shown, estimated wrongly, and what the run cost

Tags `stand_in.*` name what stands for something else; `busy_machine` marks a run that is not to be trusted. \
Artifact `run.html` plays the run.""",
    "profiling": "Measurements of this machine: latency tables for policies and the virtual clock, and samples of "
    "sizes and accuracies that the estimators are trained on.",
    "training": "Trainings of the embedded detector and of the size and accuracy estimators; `train/...` are losses, "
    "`held_out/...` scores on frames that were not trained on.",
    "reports": "Reports of sweeps: artifact `report.html` compares their policies.",
}
"""Description of the experiments that the configuration names, in Markdown; a user's own says what its user wrote."""


def describe_experiment(client: MlflowClient, experiment: Experiment, database: Path | None) -> None:
    """Set the tags that an experiment lacks; one of an older version has the metrics of its runs renamed first.

    A note or kind that is there stays. On a tracking server, metrics of older runs keep their names.

    Args:
        database: file of the SQLite store that holds the experiment; None for a server.
    """
    if METRIC_NAMES not in experiment.tags and database is not None:
        rename_metrics(database, experiment.experiment_id)
    wanted = {KIND: MACHINE_LEARNING, METRIC_NAMES: CURRENT_NAMES}
    if experiment.name in NOTES:
        wanted[NOTE] = NOTES[experiment.name]
    for key, value in wanted.items():
        if key not in experiment.tags:
            client.set_experiment_tag(experiment.experiment_id, key, value)
