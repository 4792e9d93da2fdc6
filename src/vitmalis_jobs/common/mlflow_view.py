"""The prepared view of an experiment in the MLflow UI: policies, clips, traces and scores of its runs, newest first.

MLflow keeps named views as tags of the experiment: JSON of its page's state, compressed. The format is that of its own
"save view", not a documented interface, so `view_url` falls back to the plain page where MLflow is another version, and
`tests/evaluation/test_ui.py` opens the view in a browser.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from vitmalis_jobs.common.metric_names import (
    E2E_MEDIAN,
    INFERENCE_F1,
    INFERENCE_MEDIAN,
    LOST_OFFLOADS,
    NETWORK_MEDIAN,
    PAYLOAD_MEDIAN,
    RENDERING_F1,
)
from vitmalis_jobs.common.mlflow_tags import STARTED

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

VIEW = "vitmalis"
"""Key of the view in URLs."""
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"
MLFLOW_VERSION = 3, 17
"""Major version of MLflow whose format this is, and its minor version that named views came with."""
_NAME = "Policies compared"
_WIDTHS_PX = {
    "tags.`policy`": 120,
    "tags.`clip`": 120,
    "tags.`trace`": 100,
    f"metrics.`{RENDERING_F1}`": 110,
    f"metrics.`{INFERENCE_F1}`": 110,
    f"metrics.`{E2E_MEDIAN}`": 160,
    f"metrics.`{NETWORK_MEDIAN}`": 180,
    f"metrics.`{INFERENCE_MEDIAN}`": 190,
    f"metrics.`{PAYLOAD_MEDIAN}`": 190,
    f"metrics.`{LOST_OFFLOADS}`": 160,
    "tags.`options`": 260,
    "tags.`clock`": 90,
    "attributes.`Duration`": 90,
}
"""Columns of the view in their order, as MLflow writes them, and their widths."""


def prepare_view(client: MlflowClient, experiment: Experiment) -> None:
    """Store the view in the experiment's tags, unless it is there."""
    tag = view_tag(experiment.creation_time or 0)
    if experiment.tags.get(VIEW_TAG) != tag:
        client.set_experiment_tag(experiment.experiment_id, VIEW_TAG, tag)


def view_tag(created_ms: int) -> str:
    """Value of the tag that holds the view.

    Args:
        created_ms: when the view was made, for MLflow's list of views.
    """
    state = {
        # By its own time of creation MLflow folds the runs of sweeps away; by any tag it does not.
        "orderByKey": f"tags.`{STARTED}`",
        "orderByAsc": False,
        "selectedColumns": list(_WIDTHS_PX),
        "columnOrder": list(_WIDTHS_PX),
        "columnWidths": _WIDTHS_PX,
    }
    envelope = {"name": _NAME, "createdAt": created_ms, "updatedAt": created_ms, "state": _compressed(state)}
    return json.dumps(envelope)


def _compressed(state: Mapping[str, Any]) -> str:
    return "deflate;" + base64.b64encode(zlib.compress(json.dumps(state).encode(), 9)).decode()


def view_url(address: str, experiment_id: str, tags: Mapping[str, str]) -> str:
    """URL of an experiment's runs, without pages for language models, in the prepared view if it has one that this
    version of MLflow understands.

    Args:
        address: of the MLflow server.
        experiment_id: of the experiment.
        tags: of the experiment.
    """
    runs = f"{address}/#/experiments/{experiment_id}/runs?workflowType=machine_learning"
    major, minor, *_ = (int(part) for part in version("mlflow").split(".")[:2])
    understood = major == MLFLOW_VERSION[0] and minor >= MLFLOW_VERSION[1]
    return f"{runs}&viewStateShareKey={VIEW}" if understood and VIEW_TAG in tags else runs
