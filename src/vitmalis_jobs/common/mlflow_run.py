"""One MLflow run being written: its tags, parameters, metrics, inputs and artifacts."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitmalis_jobs.common.metric_names import in_mlflow, mlflow_name

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput

_PARAM_LIMIT = 6000
_BATCH = 100
_DIGEST_LIMIT = 36


@dataclass(frozen=True, slots=True)
class RunInput:
    """An input of a run, which MLflow calls a dataset.

    Attributes:
        name: of the input, such as a clip's.
        digest: of its content; MLflow tells inputs of one name apart by it, and shows its beginning.
        context: what the run uses it as, such as `clip` or `trace`.
        source: file or address that it comes from.
        profile: facts about it, such as its number of frames.
    """

    name: str
    digest: str
    context: str
    source: str
    profile: Mapping[str, object] = field(default_factory=dict)

    def as_mlflow(self) -> DatasetInput:
        """The input as MLflow stores it."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        source, profile = json.dumps({"uri": self.source}), json.dumps(dict(self.profile))
        dataset = Dataset(self.name, self.digest[:_DIGEST_LIMIT], "local", source, profile=profile)
        return DatasetInput(dataset, [InputTag("mlflow.data.context", self.context)])


class Run:
    """One MLflow run being written.

    Attributes:
        run_id, name: of the run.
        store_name: tracking address and experiment that hold it.
        finished: whether its status was set to FINISHED.
    """

    def __init__(self, client: MlflowClient, info: Any, store_name: str) -> None:
        self._client = client
        self.run_id: str = info.run_id
        self.name: str = info.run_name
        self.store_name = store_name
        self.finished = False

    def finish(self) -> None:
        """Set the run's status to FINISHED."""
        self._client.set_terminated(self.run_id, "FINISHED")
        self.finished = True

    def tag(self, tags: Mapping[str, str]) -> None:
        """Set tags of this run."""
        from mlflow.entities import RunTag

        self._client.log_batch(self.run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    def log_params(self, params: Mapping[str, object]) -> None:
        """Log parameters, `section.key` to value; long values are cut."""
        from mlflow.entities import Param

        entries = [Param(key, str(value)[:_PARAM_LIMIT]) for key, value in params.items()]
        for start in range(0, len(entries), _BATCH):
            self._client.log_batch(self.run_id, params=entries[start : start + _BATCH])

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Log one value for each metric, under its name in MLflow (`metric_names`)."""
        self._log([(key, value, 0) for key, value in in_mlflow(metrics).items()])

    def log_curve(self, key: str, steps: list[int], values: list[float]) -> None:
        """Log one metric over whole-number steps, under its name in MLflow (`metric_names`)."""
        name = mlflow_name(key)
        self._log([(name, value, step) for step, value in zip(steps, values, strict=True)])

    def log_inputs(self, inputs: Sequence[RunInput]) -> None:
        """Log what the run played, for MLflow's column of datasets."""
        self._client.log_inputs(self.run_id, [each.as_mlflow() for each in inputs])

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Copy a file into the run's artifacts."""
        self._client.log_artifact(self.run_id, str(path), folder)

    def _log(self, entries: list[tuple[str, float, int]]) -> None:
        from mlflow.entities import Metric

        now_ms = int(time.time() * 1000)
        metrics = [Metric(key, value, now_ms, step) for key, value, step in entries]
        for start in range(0, len(metrics), 10 * _BATCH):
            self._client.log_batch(self.run_id, metrics=metrics[start : start + 10 * _BATCH])
