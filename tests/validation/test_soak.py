"""What the soak test computes from memory samples and records, and the whole job for some seconds."""

from __future__ import annotations

import json
from pathlib import Path

import av
import pytest

from tests.evaluation.tiny_sweep import FPS, FRAMES, make_clip
from vitmalis.client.events import Render
from vitmalis.client.recorder import Recorder
from vitmalis.regions import ModelGeometry
from vitmalis.types import BoxSource, Detections
from vitmalis_jobs.run.records import RunRecords
from vitmalis_jobs.validation import soak
from vitmalis_jobs.validation.looped_clip import loop_clip
from vitmalis_jobs.validation.soak import PROCESSES, drift_frames, growth_mb, main, memory_result, played_result


def test_a_clip_is_repeated_whole_until_it_is_long_enough(tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mp4")
    loop_clip(tmp_path / "clip.mp4", tmp_path / "long.mp4", seconds=2.5)
    with av.open(str(tmp_path / "clip.mp4")) as clip:
        once = [frame.to_ndarray(format="rgb24") for frame in clip.decode(video=0)]
    with av.open(str(tmp_path / "long.mp4")) as clip:
        frames = list(clip.decode(video=0))
    assert len(frames) == 3 * FRAMES
    assert [round(frame.time * FPS) for frame in frames] == list(range(3 * FRAMES))
    for index in (0, FRAMES, 3 * FRAMES - 1):
        assert (frames[index].to_ndarray(format="rgb24") == once[index % FRAMES]).all()


def test_frames_that_the_camera_lost_are_counted_and_do_not_count_as_pacing() -> None:
    """Frames of a real recorder at 20 FPS: the camera lags 1 % of each frame interval, and loses the last 40 of 200."""
    recorder = Recorder(1 / 20, ModelGeometry(window=5, factor=2, patch_px=16, restoration_points=4))
    for index in range(200):
        if index < 160:
            recorder.captured(index, index / 20 * 1.01)
        recorder.rendered(Render(index, Detections.empty(), BoxSource.NONE, -1, -1), index / 20)
    result = played_result(RunRecords(recorder.frames(), recorder.offloads()), fps=20.0)
    assert (result["frames"], result["frames_lost_by_camera"]) == (200, 40)
    # Median lag of frames 144 to 159 less that of frames 0 to 15, in frames.
    assert result["drift_frames"] == pytest.approx(0.01 * (151.5 - 7.5))


def test_a_process_without_samples_has_no_growth() -> None:
    rows = [{"time_s": 5.0 * step, "client": 100.0 + step} for step in range(12)]
    assert memory_result(rows) == {"client_growth_mb": 8.0, "client_mb": 111.0, "relay_mb": 0.0, "server_mb": 0.0}


def test_growth_is_from_the_second_sixth_to_the_last() -> None:
    rows = [{"time_s": float(second), "client": 100.0 + (50 if second < 10 else second / 10)} for second in range(60)]
    assert growth_mb(rows, "client") == pytest.approx(4.0)  # the start does not count


def test_drift_is_in_frames() -> None:
    indices = list(range(0, 200, 2))  # every other frame was lost
    assert drift_frames([index / 20 + 0.01 for index in indices], indices, 20.0) == pytest.approx(0.0)
    slow = [index / 20 * 1.001 for index in indices]
    assert drift_frames(slow, indices, 20.0) == pytest.approx(0.18, abs=0.01)


@pytest.mark.slow
def test_the_whole_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(soak, "SAMPLE_S", 0.2)
    monkeypatch.chdir(tmp_path)
    make_clip(Path("clip.mp4"))
    options = ["video=file", "video.path=clip.mp4", "model.max_width=320", "model.max_height=192"]
    status = main(["--minutes", "0.1", *options])
    result = json.loads(capsys.readouterr().out)
    assert result == json.loads(Path("runs/soak/soak.json").read_text())
    assert status == bool(result["missed"])
    assert result["frames"] == 6 * FPS
    assert 0 <= result["frames_lost_by_camera"] < result["frames"]
    assert result["offloads"] > 0
    assert all(result[f"{name}_mb"] > 1 for name in PROCESSES)
    assert Path("runs/soak/memory.csv").read_text().startswith("time_s,client,relay,server")
    assert Path("runs/soak/memory.png").stat().st_size > 1000
