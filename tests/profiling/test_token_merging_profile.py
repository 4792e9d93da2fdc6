"""The job that compares token merging with mixed resolution: masks of a token share, and the result for a real clip."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vitmalis.regions.grid import RegionGrid
from vitmalis.types import Detections
from vitmalis_jobs.profiling.real_clips import ALL
from vitmalis_jobs.profiling.token_merging import MERGING, MIXED, Reduction, main, mask_of_share, reductions

GRID = RegionGrid(640, 640, window=5)  # 4 x 4 regions of 100 tokens, 25 where downsampled
OBJECT = Detections.of([[10, 10, 300, 150]], [0.9], [0])  # in the first two regions


@pytest.mark.parametrize(("share", "regions"), [(1.0, 0), (0.75, 6), (0.5, 11), (0.25, 16)])
def test_regions_are_downsampled_until_the_share_of_tokens_is_reached(share: float, regions: int) -> None:
    mask = mask_of_share(GRID, share, OBJECT, seed=3)
    assert mask.sum() == regions, "each takes 75 of 1600 tokens"
    assert mask.ravel()[:2].any() == (regions > 14), "regions with an object come last"


def test_smaller_shares_include_the_regions_of_larger_ones() -> None:
    larger, smaller = (mask_of_share(GRID, share, OBJECT, seed=8) for share in (0.7, 0.4))
    assert not (larger & ~smaller).any()


def test_both_methods_are_tried_at_each_share() -> None:
    assert reductions([0.5, 0.25], [2, 4]) == [
        Reduction(MERGING, 0.5),
        Reduction(MERGING, 0.25),
        Reduction(MIXED, 0.5, 2),
        Reduction(MIXED, 0.25, 2),
        Reduction(MIXED, 0.5, 4),
        Reduction(MIXED, 0.25, 4),
    ]


def test_the_job_on_a_clip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "merging.json"
    size = ("--max-width", "320", "--max-height", "180", "--seconds", "1", "--frames", "1")
    assert main(["--clips", "market1906", *size, "--token-shares", "0.5,1.0", "--output", str(output)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result == json.loads(output.read_text())
    assert output.with_suffix(".png").stat().st_size > 0
    rows = result["rows"]
    assert [(row["clip"], row["method"], row["token_share"], row["restoration_point"]) for row in rows[:4]] == [
        ("market1906", MERGING, 1.0, None),
        ("market1906", MERGING, 0.5, None),
        ("market1906", MIXED, 1.0, 4),
        ("market1906", MIXED, 0.5, 4),
    ]
    assert [row["clip"] for row in rows[4:]] == [ALL] * 4
    assert rows[0]["tp"] + rows[0]["fn"] == rows[2]["tp"] + rows[2]["fn"]
    assert rows[0]["fp"] == rows[0]["fn"] == rows[2]["fp"] == rows[2]["fn"] == 0, "all tokens: the full model's boxes"
    full = rows[0]["tokens"]
    assert [row["tokens"] for row in rows[1:3]] == [full / 2, full]
    assert full / 4 <= rows[3]["tokens"] <= full / 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--token-shares", "0"], "above 0 and at most 1"),
        (["--points", "7"], "0 to 4, not 7"),
        (["--frames", "0"], "--frames"),
        (["model.engine=fused"], "model.engine=eager"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--clips", "market1906", "--output", str(tmp_path / "x.json")]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
