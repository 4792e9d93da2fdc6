"""Tables of held-out clips one by one, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from vitmalis_jobs.training.estimation.clip_tables import ClipRow, clip_tables, spread_metrics
from vitmalis_jobs.training.estimation.error_tables import TableRow
from vitmalis_jobs.training.estimation.regression_metrics import RegressionMetrics


def row(clip: str, kind: str, error_bytes: float) -> ClipRow:
    """A size estimator that is off by this much, half of the time more and half of the time less."""
    truth = np.array([10_240.0, 10_240.0, 20_480.0, 20_480.0])
    estimate = truth + error_bytes * np.array([1, -1, 1, -1])
    return ClipRow(
        clip,
        2,
        TableRow("held_out_clips", "Held-out clips", "payload_bytes", kind, RegressionMetrics.of(truth, estimate)),
    )


ROWS = [row(clip, kind, 1024.0 * error) for kind in ("mlp", "mean") for clip, error in (("a", 1.0), ("b", 3.0))]


def test_each_clip_has_a_line_and_the_spread_two() -> None:
    lines = clip_tables(ROWS).strip().splitlines()
    assert lines[0] == "### Held-out clips, one by one: Size (KiB)"
    kinds = "MLP", "Offline mean"
    heads = [f"{metric}, {kind}" for metric in ("RMSE", "R2", "Bias") for kind in kinds]
    assert lines[2] == f"| Clip | Frames | {' | '.join(heads)} |"
    assert lines[4] == "| a | 2 | 1.00 | 1.00 | 0.960 | 0.960 | 0.00 | 0.00 |"
    assert lines[5].startswith("| b | 2 | 3.00 | 3.00 | 0.640 |")
    assert lines[6].startswith("| mean | 4 | 2.00 | 2.00 | 0.800 |")
    assert lines[7].startswith("| deviation |  | 1.41 | 1.41 |"), "sqrt(2), of two clips that are 1 from their mean"


def test_the_deviation_over_clips_is_a_metric() -> None:
    metrics = spread_metrics(ROWS)
    assert metrics["held_out_clips/size_mlp_rmse_deviation"] == pytest.approx(2**0.5)
    assert not any("regret" in name for name in metrics), "the size has none"


def test_without_rows_there_is_nothing() -> None:
    assert clip_tables([]) == ""
    assert spread_metrics([]) == {}
