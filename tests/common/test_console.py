"""What a job prints about one run."""

from __future__ import annotations

from rich.console import Console

from vitmalis_jobs.common.console import Terminal

METRICS = {"rendering_f1": 0.5, "lost_frames": 3.0}


def printed(metrics: dict[str, float]) -> str:
    console = Console(width=100)
    with console.capture() as capture:
        Terminal(console).result(metrics, {"records": "runs/one"})
    return capture.get()


def test_the_result_of_a_run_has_its_metrics_and_places() -> None:
    lines = [line.split() for line in printed(METRICS).splitlines()]
    assert ["rendering", "F1", "0.500"] in lines
    assert ["frames", "lost", "by", "the", "camera", "3"] in lines
    assert ["records:", "runs/one"] in lines


def test_only_runs_of_several_devices_have_rows_about_them() -> None:
    assert "device" not in printed(METRICS)
    several = printed(METRICS | {"devices": 2.0, "worst_device_rendering_f1": 0.25})
    assert "devices (above: means over them)" in several
    assert "0.250" in several


def test_only_runs_with_masks_have_rows_about_them() -> None:
    assert "mask" not in printed(METRICS)
    masked = printed(
        METRICS | {"rendering_mask_f1": 0.375, "rendering_mask_iou": 0.625, "rendering_mask_boundary_f1": 0.75}
    )
    lines = [line.split() for line in masked.splitlines()]
    assert ["rendering", "F1", "of", "masks", "0.375"] in lines
    assert ["mean", "IoU", "of", "matched", "masks", "0.625"] in lines
    assert ["mean", "boundary", "F1", "of", "matched", "masks", "0.750"] in lines
