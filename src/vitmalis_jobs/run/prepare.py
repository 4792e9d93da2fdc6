"""The second step of a run: render or fetch its clip, fetch its weights, find or measure its latency tables."""

from __future__ import annotations

from vitmalis.detector.detector import model_id, weights_digest, weights_path
from vitmalis.paths import cache_dir
from vitmalis.policy import build_policy
from vitmalis.video.clips import resolve_clip
from vitmalis.video.spec import VideoSpec
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.run.latency_tables import run_tables
from vitmalis_jobs.run.spec import PreparedRun, ResolvedModel, RunSpec


def prepare_run(spec: RunSpec, terminal: Terminal) -> PreparedRun:
    """Make sure that everything a run needs is on this machine; what is there already is used as it is.

    Raises:
        UserError: a file is missing or wrong, or something can be neither fetched nor measured.
    """
    config = spec.config
    clip = _prepare_clip(spec, terminal)
    identifier = prepare_model(spec.model)
    tables = run_tables(spec, identifier, clip.width, clip.height, terminal) if spec.needs_tables else None
    options = spec.policy_options
    if spec.policy_needs_tables:
        options |= {"latency_tables": str(tables)}
    policy = build_policy(config.policy_kind, **options)
    return PreparedRun(
        spec, clip, identifier, options, policy.stand_in, latency_tables=tables if config.virtual else None
    )


def prepare_model(model: ResolvedModel) -> str:
    """Fetch published weights on first use; returns the `model_id` of the detector with them.

    It is done here, where a person sees the progress, and not in the server process.

    Raises:
        UserError: the weights cannot be had.
    """
    path = weights_path(model.config, model.options.weights)
    return model_id(model.config, weights_digest(path), model.options.precision)


def _prepare_clip(spec: RunSpec, terminal: Terminal) -> VideoSpec:
    config = spec.config
    with terminal.progress("preparing the clip") as step:
        return resolve_clip(
            **config.video,
            part=config.eval.part,
            seconds=config.eval.seconds,
            start_s=config.eval.start_s,
            max_width=config.model.max_width,
            max_height=config.model.max_height,
            cache_dir=cache_dir(),
            progress=step,
        )
