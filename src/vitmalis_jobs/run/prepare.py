"""The second step of a run: render or fetch its clip, fetch its weights, find or measure its latency tables."""

from __future__ import annotations

from pathlib import Path

from vitmalis.detector.detector import model_id, weights_digest, weights_files
from vitmalis.estimation.latency import load_latency_tables
from vitmalis.paths import cache_dir
from vitmalis.policy import build_policy
from vitmalis.video.clips import resolve_clip
from vitmalis.video.spec import VideoSpec
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.latency_tables import busy_reasons
from vitmalis_jobs.run.latency_tables import run_tables
from vitmalis_jobs.run.resources import Resources
from vitmalis_jobs.run.spec import PreparedRun, ResolvedModel, RunSpec


def prepare_run(spec: RunSpec, terminal: Terminal, resources: Resources | None = None) -> PreparedRun:
    """Make sure that everything a run needs is on this machine; what is there already is used as it is.

    Args:
        spec: the resolved run.
        terminal: shows progress.
        resources: shared with other runs of this process.

    Raises:
        UserError: a file is missing or wrong, or something can be neither fetched nor measured.
    """
    config = spec.config
    clip = prepare_clip(spec, terminal)
    identifier = prepare_model(spec.model)
    tables = None
    if spec.needs_tables:
        tables = run_tables(spec, identifier, clip.width, clip.height, resources or Resources(), terminal)
    options = spec.policy_options
    if spec.policy_needs_tables:
        options |= {"latency_tables": str(tables)}
    policy = build_policy(config.policy_kind, **options)
    return PreparedRun(
        spec,
        clip,
        identifier,
        options,
        policy.stand_in,
        latency_tables=tables if config.virtual else None,
        busy=_busy_while_measured({str(file) for file in (tables, options.get("latency_tables")) if file}),
    )


def prepare_model(model: ResolvedModel) -> str:
    """Fetch published weights on first use; returns the `model_id` of the detector with them.

    It is done here, where a person sees the progress, and not in the server process.

    Raises:
        UserError: the weights cannot be had.
    """
    files = weights_files(model.config, model.options.weights)
    return model_id(model.config, weights_digest(files), model.options.precision)


def _busy_while_measured(files: set[str]) -> tuple[str, ...]:
    """What kept machines busy while these latency tables were measured, as phrases."""
    found = [(file, busy_reasons(load_latency_tables(Path(file)))) for file in sorted(files)]
    return tuple(
        f"its latency tables ({file}) were measured while {' and '.join(reasons)}" for file, reasons in found if reasons
    )


def prepare_clip(spec: RunSpec, terminal: Terminal, longer_s: float = 0.0) -> VideoSpec:
    """Render or fetch the clip of a run, up to `longer_s` longer than it is played, as far as it lasts."""
    config = spec.config
    with terminal.progress("preparing the clip") as step:
        return resolve_clip(
            **config.video,
            part=config.eval.part,
            seconds=config.eval.seconds + longer_s,
            start_s=config.eval.start_s,
            max_width=config.model.max_width,
            max_height=config.model.max_height,
            cache_dir=cache_dir(),
            progress=step,
        )
