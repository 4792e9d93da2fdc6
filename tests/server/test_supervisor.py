"""The supervisor: a server that fails is started again at its address, one that never started or was ended is not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.server.conftest import PATIENCE_S, ROOT, jpeg, next_event, next_events, offload
from vitmalis.network.wire.client_endpoint import ClientEndpoint
from vitmalis.network.wire.events import Connected, Disconnected, ResultReceived
from vitmalis.process import Child
from vitmalis.server.listening import open_listener
from vitmalis.server.supervisor import Supervisor

ENVIRONMENT = {"PYTHONPATH": os.pathsep.join(map(str, (ROOT / "src", ROOT))), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Child]:
    with Child("server", "vitmalis.server", ["--model=vitdet_tiny"], tmp_path / "server.log", ENVIRONMENT) as child:
        yield child


def serving_process(supervised: Child) -> psutil.Process:
    (process,) = psutil.Process(supervised.pid).children()
    return process


def test_a_killed_server_is_back_at_its_address_and_honest_clients_with_it(
    supervised: Child, client: ClientEndpoint
) -> None:
    client.connect(supervised.wait_ready()["ready"])
    connected = next_event(client, Connected)
    assert isinstance(connected, Connected)
    header = offload(1, geometry=connected.welcome.geometry)
    first = serving_process(supervised)
    for _ in range(2):
        serving_process(supervised).send_signal(signal.SIGABRT)
        gone, back = next_events(client, 2)
        assert isinstance(gone, Disconnected)
        assert isinstance(back, Connected)
        assert client.send_offload(header, jpeg())
        next_event(client, ResultReceived)
    assert serving_process(supervised) != first
    assert "the server ended (killed by SIGABRT); restart 2" in supervised.log.read_text()
    served = serving_process(supervised)
    psutil.Process(supervised.pid).send_signal(signal.SIGTERM)
    assert supervised.wait(PATIENCE_S) == 0
    assert not served.is_running()


def test_no_server_outlives_a_killed_supervisor(supervised: Child) -> None:
    supervised.wait_ready()
    served = serving_process(supervised)
    supervised.kill()
    psutil.wait_procs([served], PATIENCE_S)
    assert not served.is_running()


def scripted(source: str) -> Supervisor:
    """A supervisor of a script instead of a server, almost without delays."""
    listener = open_listener("tcp://127.0.0.1:0", secured=False)
    return Supervisor([sys.executable, "-c", source], listener, (0.01, 0.02))


READY = f"print({json.dumps(json.dumps({'ready': 'tcp://x'}))}, flush=True)\n"


@pytest.mark.parametrize(
    ("source", "status"),
    [("raise SystemExit(1)", 1), ("import os; os.abort()", 1), ("raise SystemExit(2)", 2)]
    + [(READY + f"raise SystemExit({status})", status) for status in (0, 2)],
)
def test_what_is_not_started_again(source: str, status: int, capfd: pytest.CaptureFixture[str]) -> None:
    supervisor = scripted(source)
    assert supervisor.run() == status
    assert supervisor.restarts == 0
    assert ("ready" in capfd.readouterr().out) is source.startswith(READY)


def test_failures_are_counted_and_the_announcement_is_passed_on_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    count = f"from pathlib import Path\nruns = Path({str(tmp_path / 'runs')!r})\n"
    count += "with runs.open('a') as file: file.write('x')\nraise SystemExit(1 if len(runs.read_text()) < 5 else 0)"
    supervisor = scripted(READY + count)
    assert supervisor.run() == 0
    assert supervisor.restarts == 4
    assert capfd.readouterr().out.splitlines() == ['{"ready": "tcp://x"}']


def test_stop_ends_a_wait_for_the_next_start() -> None:
    listener = open_listener("tcp://127.0.0.1:0", secured=False)
    supervisor = Supervisor([sys.executable, "-c", READY + "raise SystemExit(1)"], listener, (3600.0, 3600.0))
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    while not supervisor.restarts:
        thread.join(0.05)
    supervisor.stop()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_without_restart_the_server_ends_with_its_failure(tmp_path: Path) -> None:
    with Child(
        "server", "vitmalis.server", ["--model=vitdet_tiny", "--no-restart"], tmp_path / "server.log", ENVIRONMENT
    ) as child:
        child.wait_ready()
        assert psutil.Process(child.pid).children() == []
        psutil.Process(child.pid).send_signal(signal.SIGABRT)
        assert child.wait(PATIENCE_S) == -signal.SIGABRT


def test_help_explains_restarts() -> None:
    shown = subprocess.run([sys.executable, "-m", "vitmalis.server", "--help"], capture_output=True, text=True)
    assert "--restart, --no-restart" in shown.stdout
    assert "--listener" not in shown.stdout
