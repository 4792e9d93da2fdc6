"""Open the MLflow UI on what has been run: `vitmalis ui`, or `make ui` in a checkout."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from pathlib import Path

from vitmalis.command_line import CommandLine
from vitmalis.errors import UserError
from vitmalis_jobs.common.cli import job_parser, option_job
from vitmalis_jobs.common.config import MlflowOptions, mlflow_options
from vitmalis_jobs.common.mlflow_store import Store
from vitmalis_jobs.common.mlflow_view import prepare_view, view_url
from vitmalis_jobs.common.storage_errors import storage_errors


def prepared_url(address: str, options: MlflowOptions) -> str:
    """URL of the evaluations, in the prepared view where MLflow understands it; stores the view, if it is not there.

    Opening the store also ends runs whose process is gone.

    Args:
        address: of the MLflow server.
        options: the store and the experiment.
    """
    store = Store(options.tracking_uri, options.experiment, Path(options.artifact_dir))
    prepare_view(store.client, store.client.get_experiment(store.experiment_id))
    return view_url(address, store.experiment_id, store.client.get_experiment(store.experiment_id).tags)


def check_listening(host: str, port: int) -> None:
    """Raise `UserError` where no server can listen, as MLflow says so only after the URL was printed, in a traceback.

    Args:
        host: address of a network interface, or its name.
        port: that it would listen on.
    """
    try:
        family = socket.getaddrinfo(host, None)[0][0]
        socket.create_server((host, port), family=family).close()
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else "ports are 0 to 65535"
        raise UserError(
            f"--host {host} --port {port}: nothing can listen there ({reason}): give another one"
        ) from error


def command_line() -> CommandLine:
    """The options of this job."""
    parser = job_parser(
        "evaluation.ui",
        "Open the MLflow UI on what has been run, with policies, clips, traces and F1 in view.",
        {
            "": "the evaluations in runs/mlflow.db",
            "--experiment training --port 5001": "training runs, at another port",
        },
    )
    defaults = mlflow_options("evaluation")
    parser.add_argument(
        "--tracking-uri", default=defaults.tracking_uri, help="MLflow store, or address of an MLflow server"
    )
    parser.add_argument("--experiment", default=defaults.experiment, help="experiment that is shown first")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=5000, help="port to listen on")
    return parser


def _serve(chosen: argparse.Namespace) -> None:
    uri, artifact_dir = chosen.tracking_uri, mlflow_options(chosen.experiment).artifact_dir
    remote = uri.startswith(("http://", "https://"))
    address = uri.rstrip("/") if remote else f"http://{chosen.host}:{chosen.port}"
    if not remote:
        check_listening(chosen.host, chosen.port)
    with storage_errors():
        url = prepared_url(address, MlflowOptions(uri, chosen.experiment, artifact_dir))
    if remote:
        print(f"look: {url}")
        return
    print(f"look: {url}    (once MLflow has started; Ctrl-C ends it)", flush=True)
    command = [sys.executable, "-m", "mlflow", "ui", "--workers", "1", "--backend-store-uri", uri]
    os.execv(command[0], [*command, "--host", chosen.host, "--port", str(chosen.port)])


main = option_job(command_line, _serve)


if __name__ == "__main__":
    sys.exit(main())
