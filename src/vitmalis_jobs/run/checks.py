"""What can be known before a run starts: that its devices, folders, ports and servers are there and work.

A run that could not end well is refused within seconds, before minutes of preparation and before it has an MLflow run.
"""

from __future__ import annotations

import time
from pathlib import Path

from vitmalis.client.offloading import check_server
from vitmalis.detector import checked_device
from vitmalis.errors import UserError
from vitmalis.network.wire.client_endpoint import ClientEndpoint
from vitmalis.network.wire.events import Connected, VersionMismatch
from vitmalis.network.wire.messages import ProtocolVersionError, Welcome
from vitmalis.network.wire.security import read_client_keys, read_server_keys
from vitmalis.paths import cache_dir
from vitmalis.server.endpoint import ServerEndpoint
from vitmalis.video.live import check_live, live_source
from vitmalis_jobs.common.checks import check_writable
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.run.config import EvaluationConfig
from vitmalis_jobs.run.prepare import prepare_run
from vitmalis_jobs.run.resources import Resources
from vitmalis_jobs.run.spec import PreparedRun, RunSpec

ANSWER_S = 8.0
"""Longest wait for the welcome of a server on another machine."""


def prepare_checked(spec: RunSpec, terminal: Terminal, resources: Resources | None = None) -> PreparedRun:
    """Prepare a run once it is known that it can be played here.

    Args:
        spec: of the run.
        terminal: shows the progress.
        resources: shared with other runs of this process.

    Raises:
        UserError, PermissionError: see `check_machine` and `prepare_run`, or the remote server has another model.
    """
    welcome = check_machine(spec)
    run = prepare_run(spec, terminal, resources)
    if welcome is not None:
        session = run.session(run.config.server.address, Path())
        check_server(session.server_address, welcome, session.geometry, session.model_id)
    return run


def check_machine(spec: RunSpec) -> Welcome | None:
    """Try what a run needs of this machine and of a remote server.

    Returns:
        What a remote server says about its model; None where the server is started here.

    Raises:
        UserError: a device, an address or a server cannot be used.
        PermissionError: a folder may not be written.
    """
    config = spec.config
    check_writable(cache_dir(), Path(config.sweep.index), Path(config.mlflow.artifact_dir))
    live = config.video["name"] == "camera"
    if config.server.spawn or not live:  # else the model runs on the other machine alone
        checked_device(config.model.device)
    if live:
        check_live(live_source(config.video.get("path")))
    if config.virtual:
        return None
    if config.server.spawn:
        _check_own_server(config)
        return None
    return _welcome(config)


def _check_own_server(config: EvaluationConfig) -> None:
    """Listen where the server will, for a moment."""
    server = config.server
    keys = None if server.keys is None else read_server_keys(Path(server.keys))
    ServerEndpoint(server.address, keys=keys, insecure=server.insecure).close()


def _welcome(config: EvaluationConfig) -> Welcome:
    """Connect to the remote server as the client will, for a moment."""
    address, folder = config.server.address, config.client.keys
    deadline_s = time.monotonic() + ANSWER_S
    with ClientEndpoint("check", keys=None if folder is None else read_client_keys(Path(folder))) as endpoint:
        endpoint.connect(address)
        while time.monotonic() < deadline_s:
            for event in endpoint.poll(0.2):
                if isinstance(event, Connected):
                    return event.welcome
                if isinstance(event, VersionMismatch):
                    raise UserError(str(ProtocolVersionError(event.theirs)))
        raise UserError(
            f"server.address={endpoint.last_error}: start the server there first (python -m vitmalis.server), and see "
            "that it can be reached from here"
        )
