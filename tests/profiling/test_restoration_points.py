"""The job of the paper's Fig. 5: masks of its settings, counts over frames, and the result for a real clip."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vitmalis.matching import Counts
from vitmalis.regions.grid import RegionGrid
from vitmalis.types import Detections
from vitmalis.video.spec import VideoSpec
from vitmalis_jobs.common.clips import spread_frames
from vitmalis_jobs.profiling.next_to_full import Outcome
from vitmalis_jobs.profiling.real_clips import ALL
from vitmalis_jobs.profiling.restoration_points import Setting, main, setting_mask, settings

GRID = RegionGrid(960, 540, window=5)  # 4 x 6 regions of 160 px


def boxes(*rows: tuple[float, float, float, float, float]) -> Detections:
    """Boxes with their scores, all of one class."""
    table = np.array(rows, np.float32)
    return Detections.of(table[:, :4], table[:, 4], np.zeros(len(table), np.int64))


def test_regions_with_an_object_keep_their_resolution() -> None:
    reference = boxes((10, 10, 200, 100, 0.9), (800, 400, 900, 500, 0.3))  # the second is too unsure to count
    mask = setting_mask(Setting("object-free", 1.0, 4), GRID, reference, seed=0)
    expected = np.ones((4, 6), np.bool_)
    expected[0, :2] = False
    np.testing.assert_array_equal(mask, expected)


def test_shares_are_of_object_free_regions_and_nested() -> None:
    reference = boxes((0, 0, 960, 320, 0.9))  # leaves the lower 12 regions
    quarter, half = (setting_mask(Setting("object-free", share, 1), GRID, reference, seed=5) for share in (0.25, 0.5))
    assert (quarter.sum(), half.sum()) == (3, 6)
    assert not half[:2].any()
    assert not (quarter & ~half).any()


def test_uniform_and_none() -> None:
    reference = boxes((0, 0, 960, 540, 0.9))
    assert setting_mask(Setting("uniform", 1.0, 4), GRID, reference, seed=0).all()
    assert not setting_mask(Setting("none", 1.0, 0), GRID, reference, seed=0).any()


def test_settings_are_the_full_model_and_all_points_with_object_free_and_with_all_regions_low() -> None:
    tried = settings([0, 2, 4], [0.5, 1.0])
    assert tried[0] == Setting("none", 1.0, 0)
    assert tried[-3:] == [Setting("uniform", 1.0, point) for point in (0, 2, 4)]
    assert [(setting.share, setting.restoration_point) for setting in tried[1:-3]] == [
        (0.5, 0),
        (0.5, 2),
        (0.5, 4),
        (1.0, 0),
        (1.0, 2),
        (1.0, 4),
    ]


def test_counts_add_up_before_f1_is_taken() -> None:
    outcome = Outcome()
    outcome.add(Counts(tp=3, fp=1, fn=0), 50.0, 100.0, {"downsampled_share": 1.0})
    outcome.add(Counts(tp=0, fp=0, fn=1), 90.0, 100.0, {"downsampled_share": 0.0})
    row = outcome.row("clip", Setting("object-free", 1.0, 3))
    assert (row["f1"], row["time_ratio"], row["inference_ms"], row["downsampled_share"]) == (0.75, 0.7, 70.0, 0.5)
    assert (row["clip"], row["restoration_point"], row["frames"]) == ("clip", 3, 2)


@pytest.mark.parametrize(("count", "expected"), [(1, [50]), (4, [12, 37, 62, 87]), (1000, list(range(100)))])
def test_frames_are_spread_evenly(count: int, expected: list[int]) -> None:
    spec = VideoSpec(name="x", path="x", fps=10, start_frame=0, frames=100, width=64, height=64)
    assert spread_frames(spec, count) == expected


def test_the_job_on_a_clip(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "points.json"
    status = main(
        [
            *("--clips", "indoor", "--frames", "1", "--points", "4,1", "--shares", "0.5,1.0", "--max-width", "480"),
            *("--folder", str(shared / "data" / "clips"), "--seconds", "1", "--output", str(output)),
        ]
    )
    assert status == 0
    result = json.loads(capsys.readouterr().out)
    assert result == json.loads(output.read_text())
    assert output.with_suffix(".png").stat().st_size > 0
    rows = result["rows"]
    assert {row["clip"] for row in rows} == {"indoor", ALL}
    assert [row["restoration_point"] for row in rows[:7]] == [0, 1, 4, 1, 4, 1, 4]
    full, uniform = rows[0], rows[5:7]
    assert (full["f1"], full["downsampled_share"]) == (1.0, 0.0)
    assert [row["downsampled_share"] for row in uniform] == [1.0, 1.0]
    assert all(row["frames"] == 1 and row["time_ratio"] > 0 for row in rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--clips", "nowhere"], "nowhere"),
        (["--clips", "indoor", "--folder", "missing"], "missing"),
        (["--points", "7"], "0 to 4, not 7"),
        (["--frames", "0"], "--frames"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--output", str(tmp_path / "x.json")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err.splitlines()[-1]
