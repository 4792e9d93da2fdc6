"""The configuration of a run of an earlier version is read as one of today."""

from __future__ import annotations

from pathlib import Path

import msgspec

from vitmalis_jobs.run.config import composed
from vitmalis_jobs.run.stored_config import read_config


def test_renamed_and_removed_options_of_older_runs_are_understood(tmp_path: Path) -> None:
    today = composed(["trace.capacity_scale=0.4", "output.video_seconds=3", "output.figures=false"])
    sections = msgspec.to_builtins(today)
    sections["model"]["capacity_scale"] = sections["latency"]["capacity_scale"] = 0.4
    sections["output"] = {"film_seconds": 3.0, "pictures": False, "page": True}
    del sections["client"]["tracker"]["name"]
    (tmp_path / "config.yaml").write_bytes(msgspec.yaml.encode(sections))
    assert read_config(tmp_path / "config.yaml") == today
