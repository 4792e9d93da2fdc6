"""How a run is described: facts for people, stand-ins, and MLflow tags."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from typing import Any

import psutil

from vitmalis.detector.engines import EAGER
from vitmalis.network.traces import GENERATED, Trace
from vitmalis.policy import POLICIES, policy_parameters
from vitmalis.video.spec import VideoSpec
from vitmalis.virtual.measured_testbed import h200_table
from vitmalis_jobs.common.detectors import model_stand_in
from vitmalis_jobs.common.machine import git_commit, processor
from vitmalis_jobs.common.mlflow_tags import PARENT
from vitmalis_jobs.run.config import EvaluationConfig, ReferenceOptions, config_hash
from vitmalis_jobs.run.directory import RunDirectory
from vitmalis_jobs.run.spec import PreparedRun, RunSpec
from vitmalis_jobs.run.tracker_times import times_stand_in


def describe(run: PreparedRun) -> dict[str, str]:
    """The facts that a person wants to see before a run starts, by name."""
    return facts_of(run.config, run.clip, run.spec.trace if run.spec.emulated else None)


def facts_of(config: EvaluationConfig, clip: VideoSpec, trace: Trace | None) -> dict[str, str]:
    """The facts about a run, by name; also of a finished one, whose code of other packages is not imported for them.

    Args:
        config: of the run, with what it chose.
        clip: that it plays.
        trace: as it is played; None for a link without emulation, and where it is gone.
    """
    length = "live" if clip.live else f"{clip.frames} frame{'' if clip.frames == 1 else 's'}"
    options = ", ".join(f"{key} {value}" for key, value in _notable_options(config).items())
    facts = {
        "clip": f"{clip.name}: {length} at {clip.fps:g} FPS, {clip.width}x{clip.height}",
        **({} if trace is None else {"trace": _trace(trace, config.trace, clip.frames / clip.fps)}),
        "link": _link(config),
        "policy": f"{config.policy_name} ({options})" if options else config.policy_name,
        "model": _model(config),
    }
    if config.devices.count > 1:
        facts["devices"] = (
            f"{config.devices.count} on one server; metrics are means over them, what is shown is the first"
        )
    if config.virtual:
        facts["clock"] = f"virtual, durations {config.latency.name}"
    return facts | ({"note": clip.note} if clip.note else {})


def _model(config: EvaluationConfig) -> str:
    name, device, server = config.model.name, config.model.device, config.server
    if not server.spawn:
        return f"{name} at {server.address}, references on {device} here"
    engine = "" if config.model.engine == EAGER else f", {config.model.engine} engine"
    return f"{name} on {device}{engine}, {server.threads} thread(s)"


def _trace(trace: Trace, options: Mapping[str, Any], seconds: float) -> str:
    """Name of a trace, and means of the part of it that is played."""
    scale, start_s = options.get("capacity_scale", 1.0), options.get("start_s", 0.0)
    scaled = "" if scale == 1.0 else f", capacity x {_plain(scale)}"
    rtt_scale = options.get("rtt_scale", 1.0)
    scaled += "" if rtt_scale == 1.0 else f", RTT x {_plain(rtt_scale)}"
    part = f"in the {seconds:.4g} s that are played" + (f", from {_plain(start_s)} s on" if start_s else "")
    means = f"mean {trace.mean_mbps(seconds):.1f} Mbps, RTT {trace.mean_rtt_ms(seconds):.0f} ms"
    return f"{trace.name}{scaled}: {means} {part}"


def _plain(value: float | str) -> str:
    """A number without needless digits; a word, such as `auto`, as it is."""
    return value if isinstance(value, str) else f"{value:g}"


def _link(config: EvaluationConfig) -> str:
    match config.link["name"]:
        case "none":
            return "none: connected directly"
        case "mahimahi":
            return "emulated by Mahimahi"
        case _:
            return f"emulated, {config.link['transport']} transport"


def _notable_options(config: EvaluationConfig) -> dict[str, Any]:
    """Policy options that differ from the policy's defaults, and always the quality and the kind of estimators.

    All options of a policy of another package, as its defaults are in code that a folder of a run must not name.
    """
    kind = config.policy_kind
    parameters = policy_parameters(kind) if kind in POLICIES else {}
    return {
        key: value
        for key, value in config.policy_options.items()
        if key in ("quality", "estimator") or key not in parameters or _as_list(parameters[key].default) != value
    }


def _as_list(value: object) -> object:
    """A value as a configuration has it, where tuples are lists."""
    return [_as_list(entry) for entry in value] if isinstance(value, tuple) else value


def stand_ins(run: PreparedRun) -> dict[str, str]:
    """The parts of a run that stand in for something else, and for what; shown on screen, tagged as `stand_in.*`."""
    spec, config = run.spec, run.config
    found = {
        "video": run.clip.stand_in,
        "trace": _trace_stand_in(config.trace) if spec.emulated else "",
        "model": model_stand_in(config.model),
        "link": "uplink emulated on one machine" if spec.emulated else "",
        "policy": run.policy_stand_in,
        "tracker": times_stand_in(config.client.tracker) if config.virtual else "",
        "latency": _other_durations(config),
        "references": _other_references(config.references),
    }
    return {key: value for key, value in found.items() if value}


def _other_references(references: ReferenceOptions) -> str:
    """By which rule boxes are references, if not by the paper's."""
    return "" if references.hysteresis is None else f"objects with hysteresis of scores, {references.hysteresis}"


def _trace_stand_in(trace: dict[str, Any]) -> str:
    """How the played trace differs from a measured one; empty if it does not."""
    scale = trace.get("capacity_scale", 1.0)
    generated = "generated by a model of measured traces" if trace.get("source") == GENERATED else ""
    scaled = f"at {scale:g} of its capacity (trace.capacity_scale)" if scale != 1.0 else ""
    rtt_scale = trace.get("rtt_scale", 1.0)
    rtt = f"at {rtt_scale:g} of its round-trip times (trace.rtt_scale)" if rtt_scale != 1.0 else ""
    return ", ".join(filter(None, (generated, scaled, rtt)))


def played_trace(spec: RunSpec) -> dict[str, str | float]:
    """How the trace was played, which its name does not say: its source, its scales and its start."""
    trace = spec.config.trace
    changes = {"capacity_scale": 1.0, "rtt_scale": 1.0, "start_s": 0.0}
    source = str(trace.get("source", trace["kind"]))
    return {"source": source} | {name: trace.get(name, unchanged) for name, unchanged in changes.items()}


def _other_durations(config: EvaluationConfig) -> str:
    """Whose durations a virtual run uses, if not those of this machine, and by which factors they are changed."""
    return ", ".join(filter(None, (_foreign_durations(config), str(config.latency.factors))))


def _foreign_durations(config: EvaluationConfig) -> str:
    """Whose durations a virtual run uses, if not those of this machine."""
    if config.virtual and config.latency.tables is not None:
        return f"durations of {config.latency.tables}"
    if not (config.virtual and config.latency.is_testbed):
        return ""
    if config.latency.name == "paper_testbed":
        return "published durations of a Jetson Orin Nano and an RTX 5090"
    server = h200_table()
    return f"published durations of a Jetson Orin Nano; {config.latency.model} on an {server.card}, {server.code}"


def tags_of(run: PreparedRun, directory: RunDirectory) -> dict[str, str]:
    """The MLflow tags of a run, which its runs are searched and grouped by."""
    tags = _configuration_tags(run.spec) | {
        "clip": run.clip.name,
        "git_commit": git_commit(),
        "host": platform.node(),
        "host.cpu": processor(),
        "host.cores": str(psutil.cpu_count()),
        "run_dir": directory.run_dir,
        "options": _further_options(directory.overrides),
    }
    tags |= {f"stand_in.{key}": value for key, value in stand_ins(run).items()}
    if directory.sweep is not None:
        tags |= {"sweep": str(directory.sweep), "sweep.number": str(directory.number)}
        if directory.parent_run_id:
            tags[PARENT] = directory.parent_run_id
    return tags


_SHOWN_OPTIONS = ("policy", "video", "trace", "clock")
"""Options that have tags of their own, `video` as `clip`."""
_WITHOUT_EFFECT = ("sweep.", "mlflow.", "output.", "hydra.")
"""Beginnings of options that change no result."""


def _further_options(overrides: Sequence[str]) -> str:
    """The options of the command line in which runs of one policy, clip and trace may differ."""
    further = [override for override in overrides if override.partition("=")[0] not in _SHOWN_OPTIONS]
    return " ".join(override for override in further if not override.startswith(_WITHOUT_EFFECT))


def _configuration_tags(spec: RunSpec) -> dict[str, str]:
    config = spec.config
    trace = played_trace(spec) | ({} if spec.emulated else {"source": "none"})
    return {
        "clock": config.clock.name,
        "latency": config.latency.name if config.virtual else "real",
        "trace": spec.trace_name,
        **{f"trace.{name}": str(value) for name, value in trace.items()},
        "policy": config.policy_name,
        "link": str(config.link["name"]),
        "transport": str(config.link.get("transport", "direct")),
        "model": config.model.name,
        "window": str(spec.model.geometry.window),
        "downsampling_factor": str(spec.model.geometry.factor),
        "config_hash": config_hash(config),
    }
