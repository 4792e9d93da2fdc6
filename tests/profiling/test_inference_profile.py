"""Rows of the inference profile: exact counts, times that are present, and bars of the last restoration point."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vitmalis.detector import preset
from vitmalis.detector.flops import vit_cost
from vitmalis_jobs.common.timing import Pairs
from vitmalis_jobs.profiling.inference import check_bars, main, nested_mask, plain_times

CONFIG = preset("vitdet_tiny")
GRID = CONFIG.region_grid(320, 320)  # 2 x 2 regions of 10 x 10 patches
SMALL = ["--width", "320", "--height", "320", "--repeats", "1"]


def test_masks_are_nested_and_of_the_share() -> None:
    grid = CONFIG.region_grid(540, 960)
    quarter, half, whole = (nested_mask(grid, share, seed=3) for share in (0.25, 0.5, 1.0))
    assert (quarter.sum(), half.sum(), whole.sum()) == (6, 12, 24)
    assert not (quarter & ~half).any()


def test_a_pairs_ratio_is_the_median_of_ratios() -> None:
    pairs = Pairs(ours_ms=[1.0, 10.0, 3.0], base_ms=[2.0, 10.0, 4.0])
    assert pairs.ratio == 0.75
    assert pairs.median_ms == (3.0, 4.0)


def test_the_first_of_a_pair_alternates() -> None:
    order: list[str] = []
    pairs = Pairs()
    for _ in range(2):
        pairs.add(lambda: order.append("ours"), lambda: order.append("base"))
    assert order == ["ours", "base", "base", "ours"]
    assert len(pairs.ours_ms) == len(pairs.base_ms) == 2


def test_bars_are_of_the_last_point_only() -> None:  # the bar: 1.1 * 0.5 + 0.03 = 0.58
    rows = [
        {"restoration_point": point, "downsampled_share": 1.0, "flop_ratio": 0.5, "time_ratio": ratio}
        for point, ratio in ((3, 9.0), (4, 0.58), (4, 0.6))
    ]
    assert [bar["met"] for bar in check_bars(rows, 4)] == [True, False]


def test_the_job_prints_and_stores_every_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "inference.json"
    assert main([*SMALL, "--shares", "1,0.5", "--points", "0,4", "--output", str(output)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result == json.loads(output.read_text())
    assert output.with_suffix(".png").stat().st_size > 0
    rows = {(row["restoration_point"], row["downsampled_share"]): row for row in result["rows"]}
    assert set(rows) == {(0, 0.5), (0, 1.0), (4, 0.5), (4, 1.0)}
    assert (rows[4, 0.5]["tokens"], rows[4, 1.0]["tokens"]) == (250, 100)
    assert rows[0, 1.0]["flop_ratio"] == 1.0
    whole, low = vit_cost(CONFIG.vit, GRID), vit_cost(CONFIG.vit, GRID, np.ones((2, 2), np.bool_), 4)
    assert rows[4, 1.0]["flop_ratio"] == pytest.approx(low.flops / whole.flops, abs=1e-4)
    assert all(row["time_ratio"] > 0 and row["detector_time_ratio"] > 0 for row in rows.values())
    assert {row["vit_stream_ms"] for row in rows.values()} == {None}, "only a GPU has a queue with events"


def test_times_of_a_plain_frame_are_medians_over_the_rows() -> None:
    rows = [{"vit_plain_ms": ms, "detector_plain_ms": whole} for ms, whole in ((3.0, None), (1.0, 7.0), (2.0, 9.0))]
    assert plain_times(rows) == {"backbone_ms": 2.0, "detector_ms": 8.0}
    assert plain_times([{"vit_plain_ms": 1.0, "detector_plain_ms": None}])["detector_ms"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--points", "5"], "0 to 4, not 5"), (["--model", "vitdet_x"], "vitdet_x"), (["--width", "0"], "--width")],
)
def test_what_cannot_be_measured_is_refused(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMALL, *arguments, "--output", str(tmp_path / "x.json")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err.splitlines()[-1]


@pytest.mark.parametrize("shares", ["0.5,1.5", "half", ""])
def test_shares_are_from_0_to_1(shares: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--shares", shares])
    assert "--shares" in capsys.readouterr().err
