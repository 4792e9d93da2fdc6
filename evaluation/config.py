"""The configuration of an evaluation, typed and checked once, where it enters."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from omegaconf import DictConfig, OmegaConf

from vitmalis.errors import UserError
from vitmalis.tracker import TrackerOptions

Positive = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Keys mean what the comments in `conf/` say."""


class EvalOptions(_Section, frozen=True):
    """`eval`: which part of the clip is played, and how boxes are matched."""

    seconds: Positive
    start_s: NotNegative
    part: Literal["eval", "profile"]
    score_threshold: Share
    iou_threshold: Share


class ClientOptions(_Section, frozen=True):
    """`client`: its buffers, patience and tracker."""

    buffer_frames: Count
    history_frames: Annotated[int, msgspec.Meta(ge=4)]
    offload_timeout_s: Positive
    connect_timeout_s: Positive
    drain_s: NotNegative
    keys: str | None
    threads: Count
    tracker: TrackerOptions


class ServerOptions(_Section, frozen=True):
    """`server`: started here, or somebody else's."""

    spawn: bool
    address: str
    keys: str | None
    insecure: bool
    restart: bool
    threads: Count


class ModelOptions(_Section, frozen=True):
    """`model`: one of `conf/model`."""

    name: str
    weights: str | None
    device: str
    precision: str
    compile: bool
    window: Count | None
    max_width: Count
    max_height: Count
    capacity_scale: Positive

    @property
    def detector_options(self) -> dict[str, Any]:
        """What `load_detector` is told besides the name, for references and server alike: the same boxes."""
        return {"weights": self.weights, "device": self.device, "precision": self.precision, "window": self.window}


class ClockOptions(_Section, frozen=True):
    """`clock`: what drives client and server."""

    name: Literal["realtime", "virtual"]


class LatencyOptions(_Section, frozen=True):
    """`latency`: how long things take on the virtual clock."""

    name: Literal["measured", "sampled", "paper_testbed"]
    tables: str | None
    seed: Annotated[int, msgspec.Meta(ge=0)]


class InferenceCacheOptions(_Section, frozen=True):
    """`inference_cache`: answers kept for other virtual runs."""

    enabled: bool
    max_gb: Positive


class ReferenceOptions(_Section, frozen=True):
    """`references`: how they are computed."""

    workers: Count


class OutputOptions(_Section, frozen=True):
    """`output`: what is made of the records."""

    film_seconds: NotNegative
    pictures: bool = True  # runs from before there was a choice have them, and can still be explained


class SweepOptions(_Section, frozen=True):
    """`sweep`: where runs that are made together lie, and which need not be made again."""

    name: str
    rerun: bool
    index: str


class MlflowOptions(_Section, frozen=True):
    """`mlflow`: where the run is kept."""

    tracking_uri: str
    experiment: str
    artifact_dir: str


class EvaluationConfig(_Section, frozen=True):
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


_Config = TypeVar("_Config", bound=msgspec.Struct)


def checked(config: DictConfig, kind: type[_Config]) -> _Config:
    """Give the configuration of any job its types.

    Raises:
        UserError: a value that is missing, of the wrong kind or out of range; names the key.
    """
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise UserError(f"{missing[0]} has no default: say {missing[0]}=...")
    try:
        return msgspec.convert(plain(config), kind)
    except msgspec.ValidationError as error:
        problem, _, where = str(error).partition(" - at `$.")
        key = where.rstrip("`") or "configuration"
        value = OmegaConf.select(config, key) if where else None
        shown = f"{key}={value}" if where else key
        raise UserError(f"{shown}: {problem[:1].lower()}{problem[1:]}") from error


def plain(config: DictConfig) -> dict[str, Any]:
    """The resolved configuration as plain dictionaries and lists."""
    container = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    if not isinstance(container, dict):
        raise TypeError(f"a configuration is a mapping, not {type(container).__name__}")
    return {str(key): value for key, value in container.items()}


def flat(config: EvaluationConfig) -> dict[str, str]:
    """Every option as `section.key`, for MLflow's parameters; where results are kept is none of them."""
    sections = msgspec.to_builtins(config)
    del sections["mlflow"], sections["sweep"]
    return dict(_flatten("", sections))


def config_hash(config: EvaluationConfig) -> str:
    """Twelve hexadecimal digits, equal for runs that were asked for the same thing."""
    wanted = msgspec.to_builtins(config)
    for section in ("mlflow", "output", "references", "inference_cache", "sweep"):
        del wanted[section]
    return hashlib.sha256(msgspec.json.encode(wanted, order="deterministic")).hexdigest()[:12]


def _flatten(prefix: str, values: dict[str, Any]) -> list[tuple[str, str]]:
    entries = []
    for key, value in values.items():
        if isinstance(value, dict):
            entries += _flatten(f"{prefix}{key}.", value)
        else:
            entries.append((f"{prefix}{key}", str(value)))
    return entries
