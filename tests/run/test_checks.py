"""What can be known before a run starts is known then: in seconds, in one line, and without an MLflow run."""

from __future__ import annotations

import io
import socket
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from mlflow import MlflowClient
from rich.console import Console

from tests.evaluation.tiny_sweep import make_clip
from vitmalis.detector import build_model, preset, save_checkpoint
from vitmalis.errors import UserError
from vitmalis.estimation import save_latency_tables
from vitmalis.video.live import check_live, live_images
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.run import checks
from vitmalis_jobs.run.config import composed
from vitmalis_jobs.run.directory import RunDirectory
from vitmalis_jobs.run.pipeline import run_evaluation
from vitmalis_jobs.validation.synthetic_tables import synthetic_tables


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a clip, weights of another model, a file in the place of a folder, and tables."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VITMALIS_CACHE", raising=False)
    monkeypatch.setattr(checks, "ANSWER_S", 0.5)
    make_clip(tmp_path / "clip.mp4")
    save_checkpoint(build_model(preset("vitdet_tiny")), tmp_path / "tiny.pt", {})
    (tmp_path / "file").write_text("not a folder")
    save_latency_tables(synthetic_tables("vitdet_l", "0123456789ab"), tmp_path / "tables.json")
    return tmp_path


def refused(*overrides: str) -> str:
    """The error of a run that must not start; checks that it left neither an MLflow run nor a process's log."""
    config = composed(["video=file", "video.path=clip.mp4", "trace=constant", "eval.seconds=1", *overrides])
    with pytest.raises(UserError) as caught:
        run_evaluation(config, RunDirectory(Path("run")), terminal=Terminal(Console(file=io.StringIO())))
    assert not list(Path("run").rglob("*.log"))
    if Path("runs/mlflow.db").exists():
        client = MlflowClient("sqlite:///runs/mlflow.db")
        assert not client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    return str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["video=camera", "video.path=93"], "live source 'camera:93' cannot be opened: is it connected"),
        (["video=camera", "video.path=clip.mp4"], "is a file: play it with video=file video.path=clip.mp4"),
        (["video=camera", "video.path=http://127.0.0.1:9/x"], "is the address right, and does its host answer?"),
        (["model.device=cuda:99"], "model.device=cuda:99 is not available here"),
        (["model.weights=tiny.pt", "model.name=vitdet_b", "model.max_width=320"], "do not fit this model"),
        (["server.address=tcp://0.0.0.0:0"], "open to other machines and there are no keys"),
        (["server=remote", "server.address=tcp://127.0.0.1:9"], "nothing listens there: start the server there first"),
        (["server=remote", "server.address=nowhere"], "write it like tcp://127.0.0.1:5555"),
        (["server=remote", "server.address=tcp://127.0.0.1:0"], "port 0 is where a server takes a free port"),
        (["server.address=tcp://127.0.0.1:22x"], "server.address=tcp://127.0.0.1:22x: it is not host:port; write it"),
        (["sweep.index=file/index"], "folder 'file/index' cannot be made (File exists: 'file')"),
        (["mlflow.artifact_dir=file"], "folder 'file' cannot be made (File exists"),
        (["trace.mbps=0.0001"], "less than one packet of 1504"),
        (["clock=virtual", "latency.tables=gone.json"], "gone.json"),
        (["clock=virtual", "latency.tables=tables.json"], "latency.tables=tables.json: measured with vitdet_l on"),
    ],
)
@pytest.mark.usefixtures("world")
def test_a_run_that_could_not_end_well_does_not_start(overrides: list[str], message: str) -> None:
    assert message in refused(*overrides)


@pytest.mark.usefixtures("world")
def test_an_address_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        assert f"'{address}' cannot be bound (Address already in use)" in refused(f"server.address={address}")


@pytest.fixture
def stream(tmp_path: Path) -> Iterator[str]:
    """The address of a video on a web server, which a client sees as it would the stream of a camera."""
    make_clip(tmp_path / "stream.mp4")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/stream.mp4"
        server.shutdown()


def test_a_stream_of_the_network_is_a_live_source(stream: str) -> None:
    check_live(stream)
    image = next(live_images(stream))
    assert (image.ndim, image.shape[2], image.dtype) == (3, 3, np.uint8)


def test_a_source_that_gives_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitmalis.video.live.FIRST_IMAGE_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/x"
        with pytest.raises(UserError, match=r"gave no image within 0\.3 s: is it in use\?"):
            check_live(address)
