"""What a run's page in MLflow shows besides its metrics: curves over its offloads, its clip and trace as datasets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from vitmalis.client.session import SESSION_FILE
from vitmalis.records import OffloadRecord
from vitmalis_jobs.common.metric_names import OFFLOAD_CURVES
from vitmalis_jobs.common.mlflow_run import Run, RunInput
from vitmalis_jobs.run.fingerprint import clip_digest, trace_digest
from vitmalis_jobs.run.spec import PreparedRun
from vitmalis_jobs.run.trace_file import trace_files


def log_offload_curves(mlflow_run: Run, offloads: Sequence[OffloadRecord]) -> None:
    """Log what each offload cost and how it was configured, over the number of its frame."""
    for field, (name, factor) in OFFLOAD_CURVES.items():
        known = [(o.frame_index, getattr(o, field)) for o in offloads if getattr(o, field) is not None]
        if known:
            mlflow_run.log_curve(name, [frame for frame, _ in known], [factor * value for _, value in known])


def run_inputs(run: PreparedRun) -> Iterator[RunInput]:
    """The clip and the trace that a run plays; a live source has no content to name it by."""
    clip, trace = run.clip, run.spec.trace
    if not clip.live:
        part = {"frames": clip.frames, "first_frame": clip.start_frame, "fps": clip.fps}
        shown = {"width_px": clip.width, "height_px": clip.height, "stand_in": clip.stand_in}
        yield RunInput(clip.name, clip_digest(clip), "clip", clip.path, part | shown)
    if run.spec.emulated:
        options = run.config.trace
        means = {"mean_mbps": round(trace.mean_mbps(), 3), "mean_rtt_ms": round(trace.mean_rtt_ms(), 3)}
        changes: dict[str, float] = {
            name: float(options[name]) for name in ("capacity_scale", "rtt_scale", "start_s") if name in options
        }
        source = str(options["path"] if options["kind"] == "file" else options.get("source", options["kind"]))
        yield RunInput(trace.name, trace_digest(trace), "trace", source, means | changes)


def input_files(directory: Path) -> list[Path]:
    """The files in a run's folder that say what its client played: its session, and its trace where it had one."""
    return [path for path in (directory / SESSION_FILE,) if path.is_file()] + trace_files(directory)
