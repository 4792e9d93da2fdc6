"""The first step of a run: from its configuration to a `RunSpec`, with no side effects and nothing that takes long."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from vitmalis.detector import chosen_device, model_config
from vitmalis.errors import UserError
from vitmalis.estimation import LatencyTablesMissing, load_latency_tables
from vitmalis.estimation.stage_factors import StageFactors
from vitmalis.network.addresses import split_address, split_target
from vitmalis.network.traces import (
    AUTO,
    DRAWN,
    FULL_HD,
    TYPICAL,
    capacity_scale,
    drawn_start_s,
    resolve_trace,
    typical_index,
)
from vitmalis.policy import build_policy
from vitmalis.tracker import build_tracker
from vitmalis.video.manifest import clip_entry
from vitmalis.video.source import SOURCE
from vitmalis.video.spec import fit_size
from vitmalis.virtual.measured_testbed import ModelTimes, h200_table
from vitmalis_jobs.common.detectors import has_random_weights, model_engine
from vitmalis_jobs.run import mahimahi
from vitmalis_jobs.run.config import EvaluationConfig, ServerOptions
from vitmalis_jobs.run.spec import ResolvedModel, RunSpec
from vitmalis_jobs.run.tracker_times import tracker_times


def resolve_run(config: EvaluationConfig) -> RunSpec:
    """Look up what the configuration names and check its options against each other.

    The configuration of the result names what was chosen where the given one leaves a choice open, see `chosen`.

    Raises:
        UserError: something is unknown, missing, broken or does not go together.
    """
    config = chosen(config)
    _check_clock(config)
    _check_address(config.server)
    _check_keys(config)
    _check_hysteresis(config)
    _check_output(config)
    _check_tracker(config)
    if config.link["name"] == "mahimahi":
        mahimahi.check(config.server)
    spec = RunSpec(
        config=config,
        clip_name=_clip_name(config.video),
        trace=resolve_trace(**config.trace),
        model=ResolvedModel(config.model, model_config(config.model.name, **config.model.architecture)),
    )
    _check_compiled(spec)
    _check_restoration_points(spec)
    if spec.emulated:
        spec.trace.delivery_opportunities_ms()  # raises for a link over which no packet would ever go
    try:  # tables are measured later; all other mistakes in the policy show here
        build_policy(config.policy_kind, **spec.policy_options)
    except LatencyTablesMissing:
        return replace(spec, policy_needs_tables=True)
    return spec


def chosen(config: EvaluationConfig) -> EvaluationConfig:
    """The configuration with what `typical`, `drawn` and `auto` of trace and model mean here, so that records say it.

    Raises:
        UserError: there are no such traces, or the model cannot run on its engine.
    """
    trace, model = config.trace, config.model
    if trace["kind"] == "cellular" and trace.get("index") == TYPICAL:
        trace = trace | {"index": typical_index(trace["technology"], trace["source"], trace["seed"])}
    if trace.get("capacity_scale") == AUTO:
        trace = trace | {"capacity_scale": capacity_scale(*fit_size(*FULL_HD, model.max_width, model.max_height))}
    if trace.get("start_s") == DRAWN:
        played = f"{_clip_name(config.video)} {config.eval.part}"  # parts are for choices and for their evaluation
        whole = resolve_trace(**trace | {"start_s": 0.0})
        trace = trace | {"start_s": drawn_start_s(whole, played, trace.get("seed", 0))}
    model = msgspec.structs.replace(model, device=chosen_device(model.device), engine=model_engine(model))
    return msgspec.structs.replace(config, trace=trace, model=model)


def _clip_name(video: dict[str, Any]) -> str:
    """Name of the clip in records; raises `UserError` for one that is not in the manifest."""
    match video["name"]:
        case "camera":
            return "camera"
        case name if video.get("target"):
            SOURCE.find(video["target"])
            return str(name)
        case "file":
            return Path(str(video.get("path"))).stem
        case name:
            clip_entry(name)
            return str(name)


def _check_clock(config: EvaluationConfig) -> None:
    """Refuse what the chosen clock cannot do."""
    if config.virtual:
        _check_virtual(config)
    elif config.lookahead:
        raise UserError(
            f"{config.lookahead} looks into the future, which only the virtual clock can show it: add clock=virtual"
        )
    elif config.latency.name != "measured" or config.latency.tables is not None:
        raise UserError(
            f"latency={config.latency.name} says how long things take on the virtual clock: add clock=virtual"
        )
    elif config.devices.count > 1:
        raise UserError(
            f"devices.count={config.devices.count}: a run in real time has one device; add clock=virtual, or load a "
            "server with several clients by `python -m validation.multi_client`"
        )
    elif config.latency.factors != StageFactors():
        raise UserError(
            f"latency.factors ({config.latency.factors}) change computed durations alone: add clock=virtual"
        )


def _check_tracker(config: EvaluationConfig) -> None:
    """Refuse a tracker of another package that cannot be built, or whose durations cannot be read."""
    build_tracker(config.client.tracker)
    tracker_times(config.client.tracker)


def _check_compiled(spec: RunSpec) -> None:
    if spec.config.model.compile and spec.config.model.source != "builtin":
        raise UserError(
            f"model.compile=true: {spec.model.config.name} is another library's and cannot be compiled; leave it out"
        )


def _check_restoration_points(spec: RunSpec) -> None:
    """Refuse a policy with a restoration point that the model has not: the server would refuse every offload."""
    most, options = spec.model.geometry.restoration_points, spec.config.policy
    asked = [*options.get("restoration_points", []), options.get("restoration_point", 0)]
    asked += [arm[-1] for arm in options.get("arms", []) if arm]
    if wrong := sorted({point for point in asked if isinstance(point, int) and point > most}):
        raise UserError(
            f"policy '{spec.config.policy_name}': model {spec.model.config.name} has restoration points 0 to {most}, "
            f"not {', '.join(map(str, wrong))}"
        )


def _check_virtual(config: EvaluationConfig) -> None:
    if config.lookahead and has_random_weights(config.model):
        raise UserError(
            f"{config.lookahead} compares with references, which random weights have not: give model.weights=..."
        )
    if config.video["name"] == "camera":
        raise UserError("video 'camera': a live source plays in real time only; record it and give the file")
    if not config.server.spawn:
        raise UserError(f"server.address={config.server.address}: clock=virtual has no server elsewhere to wait for")
    if config.latency.tables is not None:
        load_latency_tables(Path(config.latency.tables))
    if config.latency.name == "h200":
        ModelTimes(h200_table(), str(config.latency.model))
    if config.link["name"] not in ("emulated", "none"):
        raise UserError(f"link={config.link['name']}: clock=virtual computes link=emulated or link=none")


def _check_address(server: ServerOptions) -> None:
    try:
        split_address(server.address) if server.spawn else split_target(server.address)
    except ValueError as error:
        raise UserError(f"server.address={server.address}: {error}; write it like tcp://127.0.0.1:5555") from error


def _check_hysteresis(config: EvaluationConfig) -> None:
    hysteresis, threshold = config.references.hysteresis, config.eval.score_threshold
    if hysteresis is not None and hysteresis.appear < threshold:
        raise UserError(
            f"references.hysteresis.appear={hysteresis.appear:g} is below eval.score_threshold={threshold:g}, "
            "so that no box would count before it appears; give at least as much"
        )


def _check_output(config: EvaluationConfig) -> None:
    """Refuse to show or record what does not play in real time or can be read again."""
    if config.output.live and config.virtual:
        raise UserError("output.live=true shows a run that plays in real time: leave clock=virtual out")
    if config.output.record and config.video["name"] != "camera":
        name = config.video["name"]
        raise UserError(f"output.record=true: video '{name}' can be read again anyway; record video=camera only")


def _check_keys(config: EvaluationConfig) -> None:
    """Refuse keys on one side only: such a client and server cannot complete their handshake."""
    if config.server.spawn and (config.client.keys is None) != (config.server.keys is None):
        raise UserError(
            f"client.keys={config.client.keys} and server.keys={config.server.keys}: give a folder to both, or to none"
        )
