"""A run that is exported here, played by a client that has neither torch nor MLflow, and scored here."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.tiny_sweep import FRAMES, make_clip
from vitmalis.network.wire.security import make_keys
from vitmalis.process import Child
from vitmalis.records import FRAMES_FILE, FrameRecord, RecordsInfo, read_frames, read_info, write_frames, write_run
from vitmalis.types import Detections
from vitmalis_jobs.evaluation.device import export, score

NO_BOXES = Detections.empty()
PROJECT = Path(__file__).parents[2]
TINY = ["video=file", "video.path=clip.mp4", "model.max_width=320", "model.max_height=192", "eval.seconds=1"]
OBSERVED_CLIENT = """
import runpy, sys
sys.argv = ["client", *sys.argv[1:]]
try:
    runpy.run_module("vitmalis.client", run_name="__main__")
finally:
    # Not pandas, which pyarrow takes along where it is installed.
    heavy = {"torch", "mlflow", "hydra", "scipy", "matplotlib"} & set(sys.modules)
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print("HEAVY", sorted(heavy), peak.split()[1], file=sys.stderr)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_clip(tmp_path / "clip.mp4")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def play_on_device(bundle: Path, keys: Path, address: str) -> str:
    """Run the client as on a device, with nothing but the bundle and its keys; returns what it said."""
    command = [
        sys.executable,
        "-c",
        OBSERVED_CLIENT,
        "--session=session.json",
        f"--keys={keys}",
        f"--address={address}",
    ]
    client = subprocess.run(
        command, cwd=bundle, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
    return client.stdout + client.stderr


def test_a_run_is_exported_played_and_scored(
    folder: Path, vitmalis_options: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    make_keys(folder / "keys", ["device"])
    bundle = folder / "bundle"
    policy = [f"policy.{name}={value}" for name, value in vitmalis_options.items()]
    assert export.main([str(bundle), *TINY, "policy=vitmalis", *policy]) == 0
    assert "python -m evaluation.device.score" in capsys.readouterr().out
    session = (bundle / "session.json").read_text()
    assert not any(place in session for place in (str(folder), *vitmalis_options.values()))  # it must work anywhere
    moved = folder / "device"
    bundle.rename(moved)
    server = Child(
        "server", "vitmalis.server", ["--address=tcp://127.0.0.2:0", f"--keys={folder / 'keys' / 'server'}"],
        folder / "server.log", {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    with server:
        said = play_on_device(moved, folder / "keys" / "device", server.wait_ready()["ready"])
    heavy = re.search(r"HEAVY (\[.*\]) (\d+)", said)
    assert heavy, said
    assert heavy[1] == "[]"
    assert int(heavy[2]) < 400 * 1024  # kB at most at any time
    assert '"done": true' in said
    assert len(read_frames(moved / FRAMES_FILE)) == FRAMES
    brought = sorted(moved.rglob("*"))
    assert score.main([str(moved)]) == 0
    assert sorted(moved.rglob("*")) == brought  # nothing is written into a device's folder
    (kept,) = (folder / "runs" / "bundles").iterdir()
    summary = json.loads((kept / "summary.json").read_text())
    assert summary["status"] == "FINISHED"
    assert (kept / FRAMES_FILE).read_bytes() == (moved / FRAMES_FILE).read_bytes()
    assert summary["metrics"]["offloads"] >= 1
    assert "rendering_f1" not in summary["metrics"]  # nothing is to be found in this clip
    info = read_info(moved / FRAMES_FILE)
    ended = RecordsInfo(info.policy, info.clip, info.trace, ended="interrupted")
    write_frames(moved / FRAMES_FILE, read_frames(moved / FRAMES_FILE), ended)
    assert score.main([str(moved)]) == 2
    assert "ended early (interrupted): play it again" in capsys.readouterr().err


def test_mistakes_are_one_clear_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert score.main([str(folder)]) == 2
    assert "is no bundle" in capsys.readouterr().err
    (folder / "file").write_text("in the way")
    assert export.main([str(folder / "file" / "b"), *TINY, "policy=back2back"]) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert export.main([str(folder / "b"), *TINY, "policy=back2back"]) == 0
    assert score.main([str(folder / "b")]) == 2
    assert "frames.parquet" in capsys.readouterr().err
    label = folder / "b" / "bundle.json"
    label.rename(folder / "label.json")  # as in the folder of a run of evaluate.py
    assert score.main([str(folder / "b")]) == 2
    assert "is no bundle (bundle.json" in capsys.readouterr().err
    (folder / "label.json").rename(label)
    (kept,) = (folder / "runs" / "bundles").iterdir()
    facts = kept / "facts.json"
    facts.write_text(facts.read_text().replace('"model_id":"', '"model_id":"x'))
    assert score.main([str(folder / "b")]) == 2
    assert "the model is not the one it was made with" in capsys.readouterr().err


def played(bundle: Path, policy: str = "back2back", frames: int = FRAMES, detections: Detections = NO_BOXES) -> None:
    """Write the records of a device that has shown the same boxes on every frame."""
    info = RecordsInfo(policy, "clip", "none")
    rows = [
        FrameRecord(frame_index=i, capture_time_s=i / 10, render_time_s=i / 10, detections=detections)
        for i in range(frames)
    ]
    write_run(bundle, info, rows, [])


@pytest.fixture
def exported(folder: Path) -> Path:
    """A bundle with records, scored once; no option of these tests may change what comes of it."""
    assert export.main([str(folder / "b"), *TINY, "policy=back2back"]) == 0
    played(folder / "b")
    return folder / "b"


def test_a_tampered_bundle_chooses_neither_weights_nor_addresses_nor_places(exported: Path) -> None:
    folder, config = exported.parent, (next((exported.parent / "runs" / "bundles").iterdir()) / "config.yaml")
    evil = config.read_text()
    for name, value in (
        ("weights", f"{folder}/evil.pt"),
        ("tracking_uri", f"sqlite:///{folder}/evil.db"),
        ("artifact_dir", f"{folder}/evil_artifacts"),
        ("index", f"{folder}/evil_index"),
        ("path", f"{folder}/evil.mp4"),
    ):
        evil, count = re.subn(rf"(\b{name}): .*", rf"\1: {value}", evil)
        assert count
    session = json.loads((exported / "session.json").read_text())
    session |= {"server_address": "tcp://evil:1", "output_dir": f"{folder}/evil", "model_id": "evil"}
    session["video"]["path"] = "camera:0"
    (exported / "session.json").write_text(json.dumps(session))
    (exported / "config.yaml").write_text(evil)
    (exported / "summary.json").symlink_to(folder / "evil_summary.json")
    (exported / "logs").symlink_to(folder / "keys")
    (exported / "facts.json").write_text('{"clip": "evil", "model_id": "evil"}')
    assert score.main([str(exported)]) == 0
    assert not list(folder.glob("evil*"))
    (kept,) = (folder / "runs" / "bundles").iterdir()
    assert "evil" not in (kept / "session.json").read_text() + (kept / "config.yaml").read_text()


@pytest.mark.parametrize("name", ['""', '".."', '"../bundles"', '"/"', '"0000000000000000"', "7", "null"])
def test_a_bundle_that_was_not_exported_here_is_refused(
    exported: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (exported / "bundle.json").write_text(f'{{"bundle": {name}}}')
    assert score.main([str(exported)]) == 2
    assert re.search("is no bundle|was not exported here", capsys.readouterr().err)


def test_records_of_another_run_or_of_frames_that_the_clip_has_not_are_refused(
    exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for change, message in (
        ({"policy": "trackb2b"}, "holds records of 'trackb2b' on 'clip'"),
        ({"frames": FRAMES + 1}, f"not of the {FRAMES} frames of the clip"),
        ({"frames": 0}, f"not of the {FRAMES} frames of the clip"),
    ):
        played(exported, **change)
        assert score.main([str(exported)]) == 2
        assert message in capsys.readouterr().err
    for boxes in (Detections.of([[0, 0, 9, np.nan]], [0.9], [0]), Detections.of([[0, 0, 9, 9]], [0.9], [99])):
        played(exported, detections=boxes)
        assert score.main([str(exported)]) == 2
        assert "boxes that no detector returns" in capsys.readouterr().err
    (kept,) = (exported.parent / "runs" / "bundles").iterdir()
    assert not (kept / FRAMES_FILE).exists()
