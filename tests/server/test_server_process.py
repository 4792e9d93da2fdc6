"""The server as a process: start, restarts, hostile bytes, the relay in front of it, exit statuses and help."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from tests.server.conftest import PATIENCE_S, RED_BOX, RawClient, blob_server, free_address, jpeg, next_event, offload
from vitmalis.codec.jpeg import decode_jpeg
from vitmalis.detector import build_model, preset, save_checkpoint
from vitmalis.detector.loading import load_detector
from vitmalis.errors import UserError
from vitmalis.network.wire import coding
from vitmalis.network.wire import messages as m
from vitmalis.network.wire.client_endpoint import ClientEndpoint
from vitmalis.network.wire.events import Connected, Disconnected, ResultReceived
from vitmalis.process import Child
from vitmalis.server.__main__ import build_parser
from vitmalis.server.admission import decoder_environment, max_pixels


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Child]:
    with blob_server(tmp_path) as child:
        yield child


@pytest.fixture
def server_address(server: Child) -> str:
    return str(server.wait_ready()["ready"])


def serve_one(client: ClientEndpoint, seq: int) -> None:
    assert client.send_offload(offload(seq), jpeg())
    event = next_event(client, ResultReceived)
    assert isinstance(event, ResultReceived)
    assert event.result.seq == seq
    np.testing.assert_allclose(event.detections.boxes_xyxy, [RED_BOX], atol=1)


def test_announces_itself_and_serves(server: Child, client: ClientEndpoint) -> None:
    facts = server.wait_ready()
    assert facts.keys() == {"ready", "model", "model_id"}
    client.connect(facts["ready"])
    connected = next_event(client, Connected)
    assert isinstance(connected, Connected)
    assert connected.welcome.model_id == facts["model_id"]
    serve_one(client, 1)


def test_hostile_bytes_then_an_honest_client(server_address: str, server: Child, client: ClientEndpoint) -> None:
    with RawClient(server_address) as raw:
        for frames in ([b"\x00"], [b"VM\x02\xc1"], [b"", b"", b""], coding.encode(offload(1), b"x" * (2**20 + 1))):
            raw.send(*frames)
            assert isinstance(raw.receive(), m.Failure)
        raw.send(*coding.encode(offload(1), bytes(2**21 + 1)))  # so large that the server closes the connection
    client.connect(server_address)
    next_event(client, Connected)
    serve_one(client, 1)
    assert server.returncode() is None


def test_killed_and_started_again_on_the_same_port(tmp_path: Path, client: ClientEndpoint) -> None:
    address = free_address()
    with blob_server(tmp_path, address) as first:
        client.connect(first.wait_ready()["ready"])
        next_event(client, Connected)
        serve_one(client, 1)
        psutil.Process(first.pid).kill()
        next_event(client, Disconnected)
        assert not client.send_offload(offload(2), jpeg())
    with blob_server(tmp_path, address) as second:
        assert second.wait_ready()["ready"] == address
        next_event(client, Connected)
        serve_one(client, 3)


def test_behind_the_relay_a_killed_server_is_replaced(tmp_path: Path, client: ClientEndpoint) -> None:
    address = free_address()
    trace = tmp_path / "trace.csv"
    trace.write_text("time_s,uplink_mbps,rtt_ms\n0,20,10\n1,20,10\n")
    arguments = ("--upstream", address.removeprefix("tcp://"), "--trace", str(trace))
    with Child("relay", "vitmalis.network.emulation", arguments, tmp_path / "relay.log") as relay:
        with blob_server(tmp_path, address) as first:
            first.wait_ready()
            client.connect(relay.wait_ready()["ready"])
            next_event(client, Connected)
            serve_one(client, 1)
            psutil.Process(first.pid).kill()
            next_event(client, Disconnected)
        with blob_server(tmp_path, address):
            next_event(client, Connected)
            serve_one(client, 2)


def test_a_client_may_start_before_the_server(tmp_path: Path, client: ClientEndpoint) -> None:
    address = free_address()
    client.connect(address)
    assert client.poll(0.2) == []
    with blob_server(tmp_path, address):
        next_event(client, Connected)
        serve_one(client, 1)


@pytest.mark.parametrize("end", ["stdin", "SIGTERM", "SIGINT"])
def test_ends_with_status_0(end: str, server: Child, server_address: str, client: ClientEndpoint) -> None:
    client.connect(server_address)
    next_event(client, Connected)
    serve_one(client, 1)
    if end == "stdin":
        assert server.stop(PATIENCE_S) == 0
    else:
        psutil.Process(server.pid).send_signal(getattr(signal, end))
        assert server.wait(PATIENCE_S) == 0
    next_event(client, Disconnected)
    assert "1 served" in server.log.read_text()


def real_server(folder: Path, *arguments: str) -> Child:
    return Child("server", "vitmalis.server", arguments, folder / "server.log", {"OMP_NUM_THREADS": "1"})


def test_serves_a_vitdet_exactly_as_it_detects_here(tmp_path: Path, client: ClientEndpoint) -> None:
    """The real model and command line, with random weights that are saved and loaded like trained ones."""
    weights = tmp_path / "vitdet_tiny.pt"
    torch.manual_seed(0)
    save_checkpoint(build_model(preset("vitdet_tiny")), weights, {"data": "none, random"})
    arguments = ("--model", "vitdet_tiny", "--weights", str(weights), "--threads", "1")
    with real_server(tmp_path, *arguments) as server:
        facts = server.wait_ready()
        client.connect(facts["ready"])
        next_event(client, Connected)
        assert client.send_offload(offload(1, geometry=preset("vitdet_tiny").geometry), jpeg())
        event = next_event(client, ResultReceived)
    expected = load_detector("vitdet_tiny", weights=weights)
    assert facts["model_id"] == expected.model_id
    assert isinstance(event, ResultReceived)
    here = expected.detect(decode_jpeg(jpeg(), 10**6))
    np.testing.assert_allclose(event.detections.boxes_xyxy, here.boxes_xyxy, atol=1e-3)
    np.testing.assert_allclose(event.detections.scores, here.scores, atol=1e-5)
    np.testing.assert_array_equal(event.detections.labels, here.labels)
    assert event.result.inference_s > event.result.decode_s


def test_the_largest_frame_is_that_of_the_model_or_the_one_that_is_asked_for() -> None:
    assert max_pixels("vitdet_tiny", None) == 960 * 540
    assert max_pixels("vitdet_l", None) == max_pixels("vit_small_patch16_224", None) == 1920 * 1080
    assert max_pixels("vitdet_tiny", 2.0736) == 1920 * 1080
    for wrong in ("0", "-1", "nan", "inf", "many"):
        with pytest.raises(SystemExit):
            build_parser().parse_args(["--max-megapixels", wrong])


def test_the_decoder_itself_refuses_what_is_larger() -> None:
    code = (
        "import cv2, numpy as np; data = cv2.imencode('.jpg', np.zeros((100, 401, 3), np.uint8))[1]\n"
        "try: cv2.imdecode(data, cv2.IMREAD_COLOR)\n"
        "except cv2.error as error: raise SystemExit('refused' if 'pixels' in error.err else error.err)"
    )
    for pixels, words in ((10_000, "refused"), (10_025, "")):
        environment = {**os.environ, **decoder_environment(pixels)}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert words in done.stderr
        assert done.returncode == bool(words)


def test_missing_weights_are_one_clear_line(tmp_path: Path) -> None:
    with real_server(tmp_path, "--weights", "missing.pt") as server:
        with pytest.raises(UserError, match=r"missing\.pt"):
            server.wait_ready()
        assert server.returncode() == 2


def test_a_busy_port_is_one_clear_line(tmp_path: Path, server_address: str) -> None:
    with real_server(tmp_path / "busy", "--address", server_address) as second:
        with pytest.raises(UserError, match=f"'{server_address}' cannot be bound"):
            second.wait_ready()
        assert second.returncode() == 2
        assert len(second.log.read_text().splitlines()) == 1


def test_help_names_every_option() -> None:
    shown = subprocess.run([sys.executable, "-m", "vitmalis.server", "--help"], capture_output=True, text=True)
    assert shown.returncode == 0
    for option in ("--address", "--model", "--weights", "--device", "--precision", "--window", "--compile"):
        assert option in shown.stdout
