"""What a run is, before anything starts: clip, trace, policy, and how to speak of them."""

from __future__ import annotations

import inspect
import platform
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import psutil

from vitmalis.client.session import ClientSession
from vitmalis.errors import UserError
from vitmalis.estimation import LatencyTablesMissing
from vitmalis.metrics import MatchRule
from vitmalis.network.traces import Trace, resolve_trace
from vitmalis.paths import cache_dir
from vitmalis.policy import POLICIES, Policy, build_policy
from vitmalis.regions import ModelGeometry
from vitmalis.video.clips import resolve_clip
from vitmalis.video.spec import VideoSpec
from vitmalis_jobs.common.config import ModelOptions
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.detectors import model_stand_in
from vitmalis_jobs.common.machine import git_commit, processor
from vitmalis_jobs.run import mahimahi
from vitmalis_jobs.run.config import EvaluationConfig, config_hash
from vitmalis_jobs.run.directory import RunDirectory


@dataclass(frozen=True, slots=True)
class RunSpec:
    """What a run needs to know before anything starts; everything a user can get wrong is found out here.

    Attributes:
        config: what was asked for.
        clip, trace: as they are played.
        policy_options: as asked for, with the latency tables of this machine where the policy takes some.
        policy_stand_in: what the policy says of itself, see `Policy.stand_in`.
        latency_tables: file with the durations of a virtual clock; None in real time.
    """

    config: EvaluationConfig
    clip: VideoSpec
    trace: Trace
    policy_options: dict[str, Any]
    policy_stand_in: str = ""
    latency_tables: Path | None = None

    @property
    def title(self) -> str:
        """Names the run wherever it is shown."""
        return f"{self.clip.name}-{self.trace_name}-{self.config.policy_name}"

    @property
    def emulated(self) -> bool:
        """Whether the link is emulated; without emulation the trace is not used."""
        return bool(self.config.link["name"] != "none")

    @property
    def trace_name(self) -> str:
        """Name of the trace that is played, or `none`."""
        return self.trace.name if self.emulated else "none"

    @property
    def rule(self) -> MatchRule:
        """How boxes are matched."""
        return MatchRule(self.config.eval.iou_threshold, self.config.eval.score_threshold)

    def session(self, address: str, model_id: str, directory: Path) -> ClientSession:
        """What the client process is told; `model_id` is what the server must serve, empty for any."""
        client = msgspec.structs.asdict(self.config.client)
        del client["threads"]  # of the process, not of the session
        client["keys"] = client["keys"] or ""
        return ClientSession(
            video=self.clip,
            server_address=address,
            model_id=model_id,
            output_dir=str(directory),
            geometry=model_geometry(self.config.model),
            policy=self.config.policy_name,
            policy_kind=self.config.policy_kind,
            policy_options=self.policy_options,
            trace=self.trace_name,
            score_threshold=self.config.eval.score_threshold,
            **client,
        )


def make_plan(config: EvaluationConfig, terminal: Terminal) -> RunSpec:
    """Find the clip and the trace, check the policy, measure latency tables if it needs them and there are none.

    Raises:
        UserError: one of them is unknown, missing or broken.
    """
    options = config.policy_options
    _check_clock(config)
    _check_keys(config)
    if config.link["name"] == "mahimahi":
        mahimahi.check(config.server)
    policy: Policy | None = None
    with suppress(LatencyTablesMissing):  # all else that can be wrong with it is told before anything takes long
        policy = build_policy(config.policy_kind, **options)
    trace = resolve_trace(**config.trace)
    with terminal.progress("preparing the clip") as step:
        clip = resolve_clip(
            **config.video,
            part=config.eval.part,
            seconds=config.eval.seconds,
            start_s=config.eval.start_s,
            max_width=config.model.max_width,
            max_height=config.model.max_height,
            cache_dir=cache_dir(),
            progress=step,
        )
    if config.virtual and clip.live:
        raise UserError(f"video '{clip.name}': a live source plays in real time only; record it and give the file")
    tables: Path | None = None
    if config.virtual or policy is None:
        from vitmalis_jobs.run.latency_tables import run_tables

        fetch_weights(config.model)
        tables = run_tables(config, clip.width, clip.height, terminal)
    if policy is None:
        options |= {"latency_tables": str(tables)}
        policy = build_policy(config.policy_kind, **options)
    return RunSpec(config, clip, trace, options, policy.stand_in, tables if config.virtual else None)


def _check_clock(config: EvaluationConfig) -> None:
    """Refuse what cannot be had on the clock that was chosen."""
    if not config.virtual and config.policy_kind == "oracle":
        raise UserError(
            "policy=oracle looks into the future, which only the virtual clock can show it: add clock=virtual"
        )
    if not config.virtual:
        if config.latency.name != "measured" or config.latency.tables is not None:
            raise UserError(
                f"latency={config.latency.name} says how long things take on the virtual clock: add clock=virtual"
            )
        return
    if not config.server.spawn:
        raise UserError(f"server.address={config.server.address}: clock=virtual has no server elsewhere to wait for")
    if config.link["name"] not in ("emulated", "none"):
        raise UserError(f"link={config.link['name']}: clock=virtual computes link=emulated or link=none")


def _check_keys(config: EvaluationConfig) -> None:
    """Refuse a client and a server of which only one has keys: they could not even greet each other."""
    if config.server.spawn and (config.client.keys is None) != (config.server.keys is None):
        raise UserError(
            f"client.keys={config.client.keys} and server.keys={config.server.keys}: give a folder to both, or to none"
        )


def fetch_weights(model: ModelOptions) -> None:
    """Download published weights on first use: here, where a person sees the progress, and not in the server."""
    from vitmalis.detector import model_config
    from vitmalis.detector.detector import weights_path

    weights_path(model_config(model.name, **model.architecture), model.weights)


def model_geometry(model: ModelOptions) -> ModelGeometry:
    """What the client must know of the model, whoever serves it.

    Raises:
        UserError: an unknown model, or a window that cannot be.
    """
    from vitmalis.detector import model_config

    return model_config(model.name, **model.architecture).geometry


def describe(plan: RunSpec) -> dict[str, str]:
    """What is run, for people."""
    config, clip, trace = plan.config, plan.clip, plan.trace
    length = "live" if clip.live else f"{clip.frames} frames"
    options = ", ".join(f"{key} {value}" for key, value in _telling(config).items())
    model, scale = config.model, config.trace.get("capacity_scale", 1.0)
    scaled = "" if scale == 1.0 else f", capacity x {scale:g}"
    where = f"{config.server.threads} thread(s)" if config.server.spawn else f"at {config.server.address}"
    facts = {
        "clip": f"{clip.name}: {length} at {clip.fps:g} FPS, {clip.width}x{clip.height}",
        "trace": f"{trace.name}{scaled}: mean {trace.mean_mbps:.1f} Mbps, RTT {trace.rtt_ms.mean():.0f} ms",
        "link": _link(config),
        "policy": f"{config.policy_name} ({options})" if options else config.policy_name,
        "model": f"{model.name} on {model.device}, {where}",
    }
    if config.virtual:
        facts["clock"] = f"virtual, durations {config.latency.name}"
    if not plan.emulated:
        del facts["trace"]
    return facts | ({"note": clip.note} if clip.note else {})


def _link(config: EvaluationConfig) -> str:
    match config.link["name"]:
        case "none":
            return "none: connected directly"
        case "mahimahi":
            return "emulated by Mahimahi"
        case _:
            return f"emulated, {config.link['transport']} transport"


def _telling(config: EvaluationConfig) -> dict[str, Any]:
    """Policy options that are not the defaults of their policy, and how frames are compressed and estimated."""
    parameters = inspect.signature(POLICIES[config.policy_kind]).parameters
    return {
        key: value
        for key, value in config.policy_options.items()
        if key in ("quality", "estimator") or _plain(parameters[key].default) != value
    }


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def stand_ins(plan: RunSpec) -> dict[str, str]:
    """What in this run stands for something else; shown, and tagged as `stand_in.*`."""
    generated = plan.config.trace.get("source") == "generated"
    found = {
        "video": plan.clip.stand_in,
        "trace": "generated by a model of measured traces" if plan.emulated and generated else "",
        "model": model_stand_in(plan.config.model),
        "link": "uplink emulated on one machine" if plan.emulated else "",
        "policy": plan.policy_stand_in,
        "latency": _borrowed_durations(plan.config),
    }
    return {key: value for key, value in found.items() if value}


def _borrowed_durations(config: EvaluationConfig) -> str:
    """Whose durations a virtual run plays by, if not this machine's."""
    if config.virtual and config.latency.tables is not None:
        return f"durations of {config.latency.tables}"
    testbed = config.virtual and config.latency.name == "paper_testbed"
    return "published durations of a Jetson Orin Nano and an RTX 5090" if testbed else ""


def tags_of(plan: RunSpec, place: RunDirectory) -> dict[str, str]:
    """What MLflow runs are searched and grouped by."""
    config = plan.config
    tags = {
        "clock": config.clock.name,
        "latency": config.latency.name if config.virtual else "real",
        "clip": plan.clip.name,
        "trace": plan.trace_name,
        "trace.source": str(config.trace.get("source", config.trace["kind"])) if plan.emulated else "none",
        "trace.capacity_scale": str(config.trace.get("capacity_scale", 1.0)),
        "policy": config.policy_name,
        "link": str(config.link["name"]),
        "transport": str(config.link.get("transport", "direct")),
        "model": config.model.name,
        "config_hash": config_hash(config),
        "git_commit": git_commit(),
        "host": platform.node(),
        "host.cpu": processor(),
        "host.cores": str(psutil.cpu_count()),
        "run_dir": str(place.directory),
    }
    tags |= {f"stand_in.{key}": value for key, value in stand_ins(plan).items()}
    if place.sweep is not None:
        tags |= {"sweep": str(place.sweep), "sweep.number": str(place.number)}
        if place.parent_run_id:
            tags["mlflow.parentRunId"] = place.parent_run_id
    return tags
