from __future__ import annotations

from vitmalis_jobs.training.estimation.error_tables import TableRow, markdown, mlflow_metrics
from vitmalis_jobs.training.estimation.regression_metrics import RegressionMetrics


def test_tables_by_hand() -> None:
    rows = [
        TableRow(
            "held_out_parts",
            "Held-out parts",
            "payload_bytes",
            "mlp",
            RegressionMetrics(2048, 4096, 10, 0.9, -512, 50, 0),
        ),
        TableRow(
            "held_out_parts",
            "Held-out parts",
            "f1",
            "mean",
            RegressionMetrics(0.1, 0.2, float("nan"), 0.5, 0.01, 70, 4),
            0.025,
        ),
        TableRow(
            "held_out_parts", "Held-out parts", "relative", "mean", RegressionMetrics(0.1, 0.3, 88, 0.2, 0.0, 70, 66)
        ),
    ]
    text = markdown(rows)
    assert "| MLP | Size (KiB) | 2.00 | 4.00 | 10.0 | 0.900 | -0.50 | - |" in text
    assert "| Offline mean | Accuracy (F1) | 0.1000 | 0.2000 | - | 0.500 | 0.0100 | 0.0250 |" in text
    assert "| Offline mean | Relative accuracy (F1) | 0.1000 | 0.3000 | - | 0.200 | 0.0000 | - |" in text
    assert "50 samples of size, 70 samples of accuracy (4 with a truth of 0, not in MAPE)." in text
    named = mlflow_metrics(rows)
    assert named["held_out_parts/size_mlp_mae_kib"] == 2
    assert named["held_out_parts/accuracy_mean_rmse"] == 0.2
    assert named["held_out_parts/accuracy_mean_regret"] == 0.025
    assert named["held_out_parts/size_mlp_bias_kib"] == -0.5
    assert "held_out_parts/accuracy_mean_mape" not in named
