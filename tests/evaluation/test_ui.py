"""The prepared view of the MLflow UI, and the URL that `vitmalis ui` prints."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import pytest

from tests.run.page.browser import chromium
from vitmalis_jobs.common import mlflow_view
from vitmalis_jobs.common.config import MlflowOptions
from vitmalis_jobs.common.mlflow_store import Store
from vitmalis_jobs.common.mlflow_view import VIEW_TAG, view_url
from vitmalis_jobs.evaluation.ui import check_listening, main, prepared_url

ADDRESS = "http://127.0.0.1:5000"
PLAIN = "workflowType=machine_learning"
RUNS = {"trackb2b": 0.412, "vitmalis": 0.534}


@pytest.fixture
def options(tmp_path: Path) -> MlflowOptions:
    return MlflowOptions(f"sqlite:///{tmp_path}/mlflow.db", "evaluation", str(tmp_path / "artifacts"))


@pytest.fixture
def store(options: MlflowOptions) -> Store:
    return Store(options.tracking_uri, options.experiment, Path(options.artifact_dir))


def sweep(store: Store) -> None:
    """Log a sweep of two runs."""
    parent = store.create_parent("sweep policy=trackb2b,vitmalis", {"sweep.command": "policy=trackb2b,vitmalis"})
    for policy, f1 in RUNS.items():
        tags = {"policy": policy, "clip": "walkS", "trace": "4g_00", "mlflow.parentRunId": parent}
        with store.run(f"{policy}-walkS-4g_00", tags) as run:
            run.log_metrics({"rendering_f1": f1, "inference_f1": 0.9, "e2e_latency_s_median": 0.25})
            run.log_curve("offload/e2e_s", [0, 12, 25], [0.2, 0.3, 0.25])
    store.end(parent, "FINISHED", {"runs_finished": 2.0}, "two runs")


def view(store: Store) -> dict[str, Any]:
    envelope = json.loads(store.client.get_experiment(store.experiment_id).tags[VIEW_TAG])
    assert envelope["name"] == "Policies compared"
    return dict(json.loads(zlib.decompress(base64.b64decode(envelope["state"].removeprefix("deflate;")))))


def test_the_url_leads_to_a_view_of_policies_and_f1(options: MlflowOptions, store: Store) -> None:
    sweep(store)
    url = prepared_url(ADDRESS, options)
    assert url == f"{ADDRESS}/#/experiments/{store.experiment_id}/runs?{PLAIN}&viewStateShareKey=vitmalis"
    assert prepared_url(ADDRESS, options) == url
    state = view(store)
    assert state["selectedColumns"][:3] == ["tags.`policy`", "tags.`clip`", "tags.`trace`"]
    assert {"metrics.`f1/rendering`", "metrics.`latency/e2e_median_s`"} <= set(state["selectedColumns"])
    ordered = store.client.search_runs([store.experiment_id], order_by=[f"{state['orderByKey']} DESC"])
    assert [run.info.run_name for run in ordered] == [
        "vitmalis-walkS-4g_00",
        "trackb2b-walkS-4g_00",
        "sweep policy=trackb2b,vitmalis",
    ]


@pytest.mark.parametrize("version", ["2.22.0", "3.16.1", "4.0.0"])
def test_another_mlflow_gets_the_plain_url(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(mlflow_view, "version", lambda _: version)
    assert view_url(ADDRESS, "1", {VIEW_TAG: "{}"}) == f"{ADDRESS}/#/experiments/1/runs?{PLAIN}"


def test_an_experiment_without_the_view_gets_the_plain_url() -> None:
    assert view_url(ADDRESS, "1", {}) == f"{ADDRESS}/#/experiments/1/runs?{PLAIN}"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_mlflow_shows_the_view(store: Store, options: MlflowOptions, tmp_path: Path) -> None:
    """What the installed MLflow makes of a format that it does not document."""
    sweep(store)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vitmalis_jobs.evaluation.ui", "--tracking-uri", options.tracking_uri]
    with chromium(tmp_path / "profile") as tab:
        server = subprocess.Popen([*command, "--port", str(port)], stdout=subprocess.PIPE, text=True, cwd=tmp_path)
        try:
            assert server.stdout is not None
            url = server.stdout.readline().split()[1]
            wait_for(port)
            tab.call("Emulation.setDeviceMetricsOverride", width=1800, height=900, deviceScaleFactor=1, mobile=False)
            tab.call("Page.navigate", url=url)
            tab.wait("document.body?.innerText.includes('0.534')", timeout_s=600)
            shown = tab.run("document.body.innerText")
        finally:
            server.terminate()
            server.wait()
    for text in ("f1/rendering", "f1/inference", "latency/e2e_median_s", "trackb2b", "walkS", "4g_00", "0.412"):
        assert text in shown
    assert "score of a policy" in shown
    assert "Judges" not in shown


def wait_for(port: int) -> None:
    """Wait until something listens on a port."""
    until_s = time.monotonic() + 300
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > until_s:
                raise
            time.sleep(0.5)


def test_an_address_where_nothing_can_listen_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--port", str(port)]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"error: --host 127.0.0.1 --port {port}: nothing can listen there (")
        assert said.count("\n") == 1
    check_listening("127.0.0.1", 0)  # any that is free
    assert main(["--port", "70000"]) == 2
    assert "(ports are 0 to 65535): give another one" in capsys.readouterr().err
    assert main(["--host", "203.0.113.7"]) == 2
    assert "nothing can listen there" in capsys.readouterr().err
    assert not list(tmp_path.iterdir()), "no store was made"
