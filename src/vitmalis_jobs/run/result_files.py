"""The files that a run leaves in its folder: a rerun in the same folder removes those of the earlier run first."""

from __future__ import annotations

from pathlib import Path

from vitmalis.records import remove_records
from vitmalis_jobs.run.devices import remove_devices
from vitmalis_jobs.run.directory import SUMMARY_FILE
from vitmalis_jobs.run.page.files import PAGE_FILE, PAGE_VIDEO_FILE
from vitmalis_jobs.run.trace_file import TRACE_FILES

VIDEO_FILE, STILL_FILE = "rendered.mp4", "rendered.png"
REGIONS_FILE, DECISION_FILE = "regions.png", "decision.png"
LATENCY_FILE, F1_FILE = "latency.png", "rendering_f1.png"


def explanation_file(offload_id: int | str) -> str:
    """Name of the plot of one offload's decision."""
    return f"decision_{offload_id}.png"


def remove_results(directory: Path) -> None:
    """Remove the results of an earlier run in this folder, whose options may have asked for more files.

    The session stays: what plays writes its own, and that of a run on a device comes with its records.
    """
    names = (
        SUMMARY_FILE,
        *(PAGE_FILE, PAGE_VIDEO_FILE, VIDEO_FILE, STILL_FILE),
        *(REGIONS_FILE, DECISION_FILE, LATENCY_FILE, F1_FILE),
        *TRACE_FILES,
    )
    for name in names:
        (directory / name).unlink(missing_ok=True)
    for path in directory.glob(explanation_file("*")):
        path.unlink()
    remove_devices(directory)
    remove_records(directory)
