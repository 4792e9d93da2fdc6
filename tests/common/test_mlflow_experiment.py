"""What MLflow shows of an experiment and a run besides metrics, also of those that an earlier version made."""

from __future__ import annotations

import json
import re
from pathlib import Path

from vitmalis_jobs.common.machine import git_commit
from vitmalis_jobs.common.mlflow_experiment import KIND, METRIC_NAMES, NOTE
from vitmalis_jobs.common.mlflow_run import RunInput
from vitmalis_jobs.common.mlflow_store import Store


def test_a_run_says_who_made_it_with_what_and_what_it_played(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/mlflow.db", "tests", tmp_path / "artifacts")
    with store.run("tagged", {}) as run:
        run.log_inputs([RunInput("walkS", 40 * "a", "clip", "data/walkS.mp4", {"frames": 120})])
    stored = store.client.get_run(run.run_id)
    tags = stored.data.tags
    assert tags["mlflow.user"]
    assert tags["mlflow.source.name"]
    assert tags["mlflow.source.type"] == "LOCAL"
    assert git_commit() == "unknown" or re.fullmatch("[0-9a-f]{40}", tags["mlflow.source.git.commit"])
    (played,) = stored.inputs.dataset_inputs
    assert (played.dataset.name, played.dataset.digest, played.tags[0].value) == ("walkS", 36 * "a", "clip")
    assert json.loads(played.dataset.profile) == {"frames": 120}


def test_an_experiment_explains_itself_unless_its_user_did(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path}/mlflow.db", "evaluation", tmp_path / "artifacts"
    first = Store(*address)
    tags = first.client.get_experiment(first.experiment_id).tags
    assert "score of a policy" in tags[NOTE]
    assert tags[KIND] == "custom_model_development"
    first.client.set_experiment_tag(first.experiment_id, NOTE, "mine")
    Store(*address)
    assert first.client.get_experiment(first.experiment_id).tags[NOTE] == "mine"
    own = Store(address[0], "my_experiment", tmp_path / "artifacts")
    assert NOTE not in own.client.get_experiment(own.experiment_id).tags


def test_a_store_of_an_earlier_version_has_its_metrics_renamed(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path}/mlflow.db", "evaluation", tmp_path / "artifacts"
    old = Store(*address)
    client = old.client
    run, other, sweep = (
        client.create_run(old.experiment_id, tags=tags).info.run_id
        for tags in ({"config_hash": "0"}, {"job": "mine"}, {"sweep.command": "policy=a,b"})
    )
    for run_id, name, value in ((run, "rendering_f1", 0.25), (other, "frames", 7.0), (sweep, "runs_failed", 1.0)):
        client.log_metric(run_id, name, value)
    for second, value in enumerate((0.0, 0.5)):
        client.log_metric(run, "rendering_f1_per_s", value, step=second)
    client.delete_experiment_tag(old.experiment_id, METRIC_NAMES)
    client = Store(*address).client
    assert client.get_run(run).data.metrics == {"f1/rendering": 0.25, "f1/rendering_over_time": 0.5}
    curve = client.get_metric_history(run, "f1/rendering_over_time")
    assert [(point.step, point.value) for point in curve] == [(0, 0.0), (1, 0.5)]
    assert client.get_run(other).data.metrics == {"frames": 7.0}
    assert client.get_run(sweep).data.metrics == {"sweep/runs_failed": 1.0}
