"""The typed configuration of an evaluation: one struct per section of `conf/evaluate.yaml`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from omegaconf import DictConfig

from vitmalis.client.session import Relevance
from vitmalis.estimation.stage_factors import StageFactors
from vitmalis.extensions import TARGET
from vitmalis.metrics.hysteresis import Hysteresis
from vitmalis.network.emulation.path import Transport
from vitmalis.network.emulation.relay import MIN_QUEUE_BYTES, QUEUE_BYTES
from vitmalis.network.traces import TYPICAL
from vitmalis.regions import MotionOptions
from vitmalis.tracker import TrackerOptions
from vitmalis_jobs.common.config import (
    Count,
    MlflowOptions,
    ModelOptions,
    NotNegative,
    Overlap,
    Positive,
    Section,
    Share,
    Threads,
    checked,
    compose,
    flatten,
)
from vitmalis_jobs.run.vary import varied


class EvalOptions(Section, frozen=True):
    """`eval`: which part of the clip is played, and how boxes are matched."""

    seconds: Positive
    start_s: NotNegative
    part: Literal["eval", "profile"]
    score_threshold: Share
    iou_threshold: Overlap


class ClientOptions(Section, frozen=True):
    """`client`: its buffers, waiting times, offloads in flight and motion analyzer."""

    buffer_frames: Count
    history_frames: Annotated[int, msgspec.Meta(ge=4)]
    offload_timeout_s: Positive
    connect_timeout_s: Positive
    drain_s: NotNegative
    keys: str | None
    threads: Threads
    tracker: TrackerOptions
    motion: MotionOptions = MotionOptions()  # absent in older records
    in_flight: Annotated[int, msgspec.Meta(ge=1, le=2)] = 1  # absent in older records
    keep_missed: bool = False  # absent in older records
    relevance: Relevance = "masks"  # absent in older records


class ServerOptions(Section, frozen=True):
    """`server`: one that is started here (`spawn`), or the address of one on another machine."""

    spawn: bool
    address: str
    keys: str | None
    insecure: bool
    restart: bool
    threads: Threads
    decode: Literal["cpu", "gpu"] = "cpu"  # absent in older records


class DevicesOptions(Section, frozen=True):
    """`devices`: how many share the server, and by which seed further ones begin elsewhere in clip and trace."""

    count: Annotated[int, msgspec.Meta(ge=1, le=32)] = 1
    seed: Annotated[int, msgspec.Meta(ge=0)] = 0


class ClockOptions(Section, frozen=True):
    """`clock`: whether the run plays in real time or on a computed clock."""

    name: Literal["realtime", "virtual"]


class LatencyOptions(Section, frozen=True):
    """`latency`: durations of the stages on the virtual clock.

    Attributes:
        factors: on the durations of single stages.
        model: model of the measured server; absent where none was measured.
    """

    name: Literal["measured", "sampled", "paper_testbed", "h200"]
    tables: str | None
    seed: Annotated[int, msgspec.Meta(ge=0)]
    factors: StageFactors = StageFactors()  # absent in older records
    model: str | msgspec.UnsetType = msgspec.UNSET

    @property
    def is_testbed(self) -> bool:
        """Whether the durations are those of a testbed, and not this machine's."""
        return self.name in ("paper_testbed", "h200")


class InferenceCacheOptions(Section, frozen=True):
    """`inference_cache`: answers of the model, kept for other virtual runs."""

    enabled: bool
    max_gb: Positive


class ReferenceOptions(Section, frozen=True):
    """`references`: how many frames are computed in parallel, and by which rule boxes are references.

    Attributes:
        hysteresis: None for the paper's rule, `eval.score_threshold` in each frame by itself.
    """

    workers: Threads
    hysteresis: Hysteresis | None = None  # absent in older records


class OutputOptions(Section, frozen=True):
    """`output`: page, plots and video that are made from the records, and what is shown or recorded meanwhile."""

    video_seconds: NotNegative
    figures: bool
    page: bool = True  # absent in older records
    live: bool = False  # absent in older records
    record: bool = False  # absent in older records


class SweepOptions(Section, frozen=True):
    """`sweep`: the folder of runs that are made together, and the index of finished runs."""

    name: str
    rerun: bool
    index: str


class VideoOptions(Section, frozen=True):
    """`video`: a clip of the manifest, a file, a camera, or images of a class of another package (`target`)."""

    name: str
    path: str | None = None
    folder: str | None = None
    fps: float | None = None
    target: str = ""
    options: dict[str, Any] = msgspec.field(default_factory=dict)


class TraceOptions(Section, frozen=True):
    """`trace`: the keyword arguments of `resolve_trace`."""

    kind: str
    technology: str = ""
    index: int | str = TYPICAL
    source: str = ""
    seed: int = 0
    path: str = ""
    mbps: float = 0.0
    rtt_ms: float = 0.0
    capacity_scale: float | Literal["auto"] = 1.0
    rtt_scale: float = 1.0
    start_s: float | Literal["drawn"] = 0.0


class LinkOptions(Section, frozen=True):
    """`link`: what lies between client and server."""

    name: Literal["emulated", "mahimahi", "none"]
    transport: Transport = "ideal"
    queue_bytes: Annotated[int, msgspec.Meta(ge=MIN_QUEUE_BYTES)] = QUEUE_BYTES


class PolicyOptions(Section, frozen=True, forbid_unknown_fields=False):
    """`policy`: its names and files; the policy checks its other options itself.

    Attributes:
        target: dotted name of a class of another package.
    """

    name: str
    kind: str = ""
    target: str = msgspec.field(name=TARGET, default="")
    model: str = ""
    window: int | None = None
    downsampling_factor: int = 2
    estimator: str = ""
    estimators: str | None = None
    latency_tables: str | None = None


class ChosenOptions(Section, frozen=True):
    """Types of the sections whose keys depend on their choice. They are kept as dictionaries of the keys that exist."""

    video: VideoOptions
    trace: TraceOptions
    link: LinkOptions
    policy: PolicyOptions


class EvaluationConfig(Section, frozen=True):
    """The configuration of `evaluate.py`. The keys of `video`, `trace`, `link` and `policy` depend on their choice."""

    video: dict[str, Any]
    trace: dict[str, Any]
    link: dict[str, Any]
    model: ModelOptions
    policy: dict[str, Any]
    eval: EvalOptions
    client: ClientOptions
    server: ServerOptions
    clock: ClockOptions
    latency: LatencyOptions
    inference_cache: InferenceCacheOptions
    references: ReferenceOptions
    output: OutputOptions
    sweep: SweepOptions
    mlflow: MlflowOptions
    devices: DevicesOptions = DevicesOptions()  # absent in older records

    @property
    def virtual(self) -> bool:
        """Whether the run plays on the virtual clock."""
        return self.clock.name == "virtual"

    @property
    def policy_name(self) -> str:
        """Name of the policy in records and reports."""
        return str(self.policy["name"])

    @property
    def policy_kind(self) -> str:
        """The policy's name for `build_policy`: of an ablation that of its class, of a class of one's own its path."""
        return str(self.policy.get(TARGET) or self.policy.get("kind", self.policy_name))

    @property
    def lookahead(self) -> str:
        """The option by which the policy knows what is to come, which only the virtual clock can show; or nothing."""
        if self.policy_kind == "oracle":
            return "policy=oracle"
        truths = self.policy.get("inject")
        return f"policy.inject={truths}" if truths else ""

    @property
    def policy_options(self) -> dict[str, Any]:
        """Keyword arguments of the policy's constructor."""
        return {key: value for key, value in self.policy.items() if key not in ("name", "kind", TARGET)}


def typed(config: DictConfig) -> EvaluationConfig:
    """Convert a composed configuration to its type, with the options of `vary` in it.

    Raises:
        UserError: `vary` names no option, or as `checked` does.
    """
    return checked(varied(config), EvaluationConfig, ChosenOptions)


def composed(overrides: Sequence[str]) -> EvaluationConfig:
    """The configuration that `evaluate.py` would run with these options, for jobs that make runs themselves.

    Raises:
        HydraException, UserError: the options cannot be composed, or a value is not what it should be.
    """
    return typed(compose("evaluate", overrides))


def flat(config: EvaluationConfig) -> dict[str, str]:
    """Every option as `section.key`, for MLflow's parameters, without the sections that say where results are kept."""
    sections = msgspec.to_builtins(config)
    del sections["mlflow"], sections["sweep"]
    return flatten(sections)


def config_hash(config: EvaluationConfig) -> str:
    """Twelve hexadecimal digits, equal for configurations that differ only in where results are kept."""
    sections = msgspec.to_builtins(config)
    for section in ("mlflow", "output", "inference_cache", "sweep"):
        del sections[section]
    del sections["references"]["workers"]
    for section, name, default in (("model", "task", "boxes"), ("client", "relevance", "masks")):
        if sections[section][name] == default:  # so that it is the hash from before there were masks
            del sections[section][name]
    return hashlib.sha256(msgspec.json.encode(sections, order="deterministic")).hexdigest()[:12]
