"""The configuration of an evaluation, typed and checked once, where it enters."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from omegaconf import DictConfig

from vitmalis.regions import MotionOptions
from vitmalis.tracker import TrackerOptions
from vitmalis_jobs.common.config import (
    Count,
    MlflowOptions,
    ModelOptions,
    NotNegative,
    Positive,
    Section,
    Share,
    checked,
    compose,
    flatten,
)


class EvalOptions(Section, frozen=True):
    """`eval`: which part of the clip is played, and how boxes are matched."""

    seconds: Positive
    start_s: NotNegative
    part: Literal["eval", "profile"]
    score_threshold: Share
    iou_threshold: Share


class ClientOptions(Section, frozen=True):
    """`client`: its buffers, waiting times, tracker and motion analyzer."""

    buffer_frames: Count
    history_frames: Annotated[int, msgspec.Meta(ge=4)]
    offload_timeout_s: Positive
    connect_timeout_s: Positive
    drain_s: NotNegative
    keys: str | None
    threads: Count
    tracker: TrackerOptions
    motion: MotionOptions = MotionOptions()  # absent in older records


class ServerOptions(Section, frozen=True):
    """`server`: started here, or somebody else's."""

    spawn: bool
    address: str
    keys: str | None
    insecure: bool
    restart: bool
    threads: Count


class ClockOptions(Section, frozen=True):
    """`clock`: what drives client and server."""

    name: Literal["realtime", "virtual"]


class LatencyOptions(Section, frozen=True):
    """`latency`: how long things take on the virtual clock."""

    name: Literal["measured", "sampled", "paper_testbed"]
    tables: str | None
    seed: Annotated[int, msgspec.Meta(ge=0)]
    capacity_scale: Positive = 1.0  # absent in older records, whose trace has it all the same


class InferenceCacheOptions(Section, frozen=True):
    """`inference_cache`: answers kept for other virtual runs."""

    enabled: bool
    max_gb: Positive


class ReferenceOptions(Section, frozen=True):
    """`references`: how they are computed."""

    workers: Count


class OutputOptions(Section, frozen=True):
    """`output`: what is made of the records."""

    film_seconds: NotNegative
    pictures: bool = True  # runs from before there was a choice have them, and can still be explained


class SweepOptions(Section, frozen=True):
    """`sweep`: where runs that are made together lie, and which need not be made again."""

    name: str
    rerun: bool
    index: str


class EvaluationConfig(Section, frozen=True):
    """Everything `evaluate.py` is told; `video`, `trace`, `link` and `policy` differ from one choice to the next."""

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

    @property
    def virtual(self) -> bool:
        """Whether time is computed."""
        return self.clock.name == "virtual"

    @property
    def policy_name(self) -> str:
        """How runs of this policy are called."""
        return str(self.policy["name"])

    @property
    def policy_kind(self) -> str:
        """Which policy it is: one of `vitmalis.policy.POLICIES`; an ablation is one under another name."""
        return str(self.policy.get("kind", self.policy_name))

    @property
    def policy_options(self) -> dict[str, Any]:
        """What the policy itself is given."""
        return {key: value for key, value in self.policy.items() if key not in ("name", "kind")}


def typed(config: DictConfig) -> EvaluationConfig:
    """Check a composed configuration and give it types; raises as `checked`."""
    return checked(config, EvaluationConfig)


def composed(overrides: Sequence[str]) -> EvaluationConfig:
    """The configuration that `evaluate.py` would run with these options, for jobs that make runs themselves.

    Raises:
        HydraException, UserError: the options cannot be composed, or a value is not what it should be.
    """
    return typed(compose("evaluate", overrides))


def flat(config: EvaluationConfig) -> dict[str, str]:
    """Every option as `section.key`, for MLflow's parameters; where results are kept is none of them."""
    sections = msgspec.to_builtins(config)
    del sections["mlflow"], sections["sweep"]
    return flatten(sections)


def config_hash(config: EvaluationConfig) -> str:
    """Twelve hexadecimal digits, equal for runs that were asked for the same thing."""
    wanted = msgspec.to_builtins(config)
    for section in ("mlflow", "output", "references", "inference_cache", "sweep"):
        del wanted[section]
    return hashlib.sha256(msgspec.json.encode(wanted, order="deterministic")).hexdigest()[:12]
