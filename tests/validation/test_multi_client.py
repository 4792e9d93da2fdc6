"""Several real clients on one real server, and how they are compared."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.evaluation.tiny_sweep import make_clip
from vitmalis_jobs.validation import multi_client

TINY = ["video=file", "video.path=clip.mp4", "model.max_width=320", "model.max_height=192", "eval.seconds=1"]


def test_two_clients_share_a_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_clip(tmp_path / "clip.mp4")
    monkeypatch.chdir(tmp_path)
    assert multi_client.main(["--clients", "1,2", "--max-batch", "2", "--folder", "runs", *TINY]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result == json.loads(Path("runs/multi_client.json").read_text())
    assert [(row["clients"], row["client"]) for row in result["clients"]] == [(1, 0), (2, 0), (2, 1)]
    assert all(row["offloads"] >= 1 for row in result["clients"])
    assert all(row["rendering_f1"] is None for row in result["summary"])  # nothing is to be found in this clip
    assert [row["clients"] for row in result["summary"]] == [1, 2]
    assert result["summary"][0]["e2e_ratio"] == 1.0
    assert Path("runs/multi_client.png").stat().st_size > 1000
    traces = {Path(f"runs/2x2/{number}/trace.csv").read_text() for number in range(2)}
    assert len(traces) == 2  # an uplink of its own each


def test_medians_and_spread() -> None:
    rows = [
        {
            "clients": 2,
            "max_batch": 1,
            "client": n,
            "rendering_f1": f1,
            "e2e_latency_s_median": s,
            "offloads": 3,
            "lost_offloads": n,
            "lost_frames": 2 * n,
        }
        for n, f1, s in ((0, 0.5, 0.2), (1, 0.7, 0.3))
    ]
    (row,) = multi_client.summary(rows)
    assert row["rendering_f1"] == pytest.approx(0.6)
    assert row["e2e_ms"] == pytest.approx(250)
    assert row["e2e_ratio"] == pytest.approx(1.5)
    assert (row["offloads"], row["lost"], row["lost_frames"]) == (6, 1, 2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--clients", "two"], "whole numbers"),
        (["--clients", "0,2"], "at least 1"),
        (["clock=virtual"], "has no server process"),
        (["--clients", "1", "--max-batch", "4", "server.spawn=false"], "was started with its own"),
    ],
)
def test_mistakes(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert multi_client.main(arguments) == 2
    assert words in capsys.readouterr().err
