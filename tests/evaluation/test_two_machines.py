"""A run that is exported here, played by a client that has neither torch nor MLflow, and scored here."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.evaluation.tiny_sweep import FRAMES, make_clip
from vitmalis.network.wire.security import make_keys
from vitmalis.process import Child
from vitmalis.records import FRAMES_FILE, RecordsInfo, read_frames, read_info, write_frames
from vitmalis_jobs.evaluation.device import export, score

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
    assert score.main([str(moved)]) == 0
    summary = json.loads((moved / "summary.json").read_text())
    assert summary["status"] == "FINISHED"
    assert summary["metrics"]["offloads"] >= 1
    assert "rendering_f1" not in summary["metrics"]  # nothing is to be found in this clip
    info = read_info(moved / FRAMES_FILE)
    ended = RecordsInfo(info.policy, info.clip, info.trace, ended="interrupted")
    write_frames(moved / FRAMES_FILE, read_frames(moved / FRAMES_FILE), ended)
    assert score.main([str(moved)]) == 2
    assert "interrupted before its end: play it again" in capsys.readouterr().err


def test_mistakes_are_one_clear_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert score.main([str(folder)]) == 2
    assert "is no bundle" in capsys.readouterr().err
    (folder / "file").write_text("in the way")
    assert export.main([str(folder / "file" / "b"), *TINY, "policy=back2back"]) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert export.main([str(folder / "b"), *TINY, "policy=back2back"]) == 0
    assert score.main([str(folder / "b")]) == 2
    assert "frames.parquet" in capsys.readouterr().err
    facts = folder / "b" / "bundle.json"
    facts.rename(folder / "kept.json")  # as in the folder of a run of evaluate.py, which has a config.yaml, too
    assert score.main([str(folder / "b")]) == 2
    assert "is no bundle (bundle.json" in capsys.readouterr().err
    (folder / "kept.json").rename(facts)
    facts.write_text(facts.read_text().replace('"model_id":"', '"model_id":"x'))
    assert score.main([str(folder / "b")]) == 2
    assert "the model is not the one it was made with" in capsys.readouterr().err
