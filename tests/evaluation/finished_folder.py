"""The folder of a finished run of four frames, for jobs that read one."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tests.run.page.small_run import DECISION, FRAMES, OFFLOADS, small_run, write_clip
from vitmalis.client.session import SESSION_FILE, write_session
from vitmalis.network.traces import constant_trace
from vitmalis.records import RecordsInfo, write_run
from vitmalis_jobs.run.config import composed
from vitmalis_jobs.run.directory import RunDirectory
from vitmalis_jobs.run.trace_file import write_trace


def finished_folder(place: Path) -> Path:
    """Write what a run leaves in its folder with output.page=false, and its clip next to the folder."""
    write_clip(place / "clip.mp4")
    folder = place / "run"
    write_run(folder, RecordsInfo(policy="vitmalis", clip="clip"), FRAMES, OFFLOADS, [DECISION])
    write_session(small_run(place / "clip.mp4").session, folder / SESSION_FILE)
    write_trace(constant_trace(8.0, 20.0), folder)
    (folder / "config.yaml").write_bytes(msgspec.yaml.encode(composed(["policy=vitmalis", "output.page=false"])))
    RunDirectory(folder).write_summary("FINISHED", {}, stand_ins={"video": "grey frames"})
    return folder
