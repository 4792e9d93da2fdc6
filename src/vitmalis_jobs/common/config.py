"""Typed configuration: from the options that Hydra composed to checked values, and the sections that jobs share."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import msgspec
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from vitmalis.errors import UserError
from vitmalis.types import MAX_WINDOW, DownsamplingFactor
from vitmalis.video.manifest import manifest
from vitmalis_jobs.common.custom_classes import custom_classes_folded, offer_entry_points

MOST = 1e9
"""Largest number that an option takes: infinity is no length of time and no size."""
Positive = Annotated[float, msgspec.Meta(gt=0, le=MOST)]
NotNegative = Annotated[float, msgspec.Meta(ge=0, le=MOST)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Threads = Annotated[int, msgspec.Meta(ge=1, le=1024)]
Side = Annotated[int, msgspec.Meta(ge=16, le=8192)]
"""Width or height of images, pixels."""
Window = Annotated[int, msgspec.Meta(ge=1, le=MAX_WINDOW)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Overlap = Annotated[float, msgspec.Meta(gt=0, le=1)]
"""Least overlap of boxes that match: from 0 on, boxes that do not touch would match, too."""


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A section of a configuration. Its keys mean what the comments in `conf/` say."""


class MlflowOptions(Section, frozen=True):
    """`mlflow`: the tracking store and experiment that a run is recorded in."""

    tracking_uri: str
    experiment: str
    artifact_dir: str


class CustomClass(Section, frozen=True):
    """A class of another package and its options."""

    target: str
    options: dict[str, Any] = {}


class ModelOptions(Section, frozen=True, kw_only=True):
    """`model`: one of `conf/model`, or a class of another package as `custom`."""

    name: str
    source: Literal["builtin", "timm", "detectron2", "custom"]
    custom: CustomClass | msgspec.UnsetType = msgspec.UNSET
    config: str | None
    weights: str | None
    device: str
    precision: Literal["fp32", "tf32", "bf16", "fp16", "int8"]
    engine: Literal["auto", "eager", "fused"] = "auto"  # absent in older records
    compile: bool
    task: Literal["boxes", "instances"] = "boxes"  # absent in older records
    window: Window | None
    downsampling_factor: DownsamplingFactor = 2  # absent in older records
    max_width: Side
    max_height: Side

    @property
    def geometry_options(self) -> dict[str, Any]:
        """Keyword arguments of `DetectorConfig.with_geometry`."""
        return {"window": self.window, "downsampling_factor": self.downsampling_factor}

    @property
    def architecture(self) -> dict[str, Any]:
        """Keyword arguments of `vitmalis.detector.model_config` besides the name."""
        chosen = {"source": self.source, "config": self.config, "task": self.task}
        return chosen | self.geometry_options | (msgspec.structs.asdict(self.custom) if self.custom else {})

    @property
    def detector_options(self) -> dict[str, Any]:
        """Keyword arguments of `load_any_detector` besides the name, the same for references and for the server."""
        chosen = {"weights": self.weights, "device": self.device, "precision": self.precision, "engine": self.engine}
        return self.architecture | chosen


def conf_dir() -> Path:
    """The folder of configurations: `conf/` of the checkout, or the copy that an installed wheel brings."""
    installed = Path(__file__).parents[1] / "conf"
    return installed if installed.is_dir() else Path(__file__).resolve().parents[3] / "conf"


def mlflow_options(experiment: str) -> MlflowOptions:
    """The MLflow store of `conf/mlflow/default.yaml`, for jobs whose options Hydra does not compose."""
    store = OmegaConf.load(conf_dir() / "mlflow" / "default.yaml")
    store.experiment = experiment
    return msgspec.convert(OmegaConf.to_container(store, resolve=True), MlflowOptions)


def compose(job: str, overrides: Sequence[str] = ()) -> DictConfig:
    """Compose the configuration of a job as its command line would, for callers in Python.

    Args:
        job: name of a file in `conf/`, such as `evaluate`.
        overrides: options such as `policy=vitmalis`.

    Raises:
        HydraException, UserError: an option is unknown or malformed.
    """
    import hydra

    with choices_named(overrides), hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return hydra.compose(job, overrides=list(overrides))


@contextmanager
def choices_named(arguments: Sequence[str]) -> Iterator[None]:
    """Raise `UserError` where Hydra, in this block, finds a group without the name of a choice, as in `policy=null`.

    Hydra itself raises a `ValueError` that does not say which group it is.
    """
    try:
        yield
    except ValueError as error:
        if not str(error).startswith("Config group override must be"):
            raise
        groups = [argument for argument in arguments if (conf_dir() / argument.partition("=")[0].lstrip("+")).is_dir()]
        raise UserError(
            f"{', '.join(groups)}: a group takes the name of one of its choices; leave it out for its default"
        ) from error


def _offer_clips() -> None:
    """Make every clip of the manifest a choice of the group `video`, besides the files in `conf/video`."""
    clips = "${paths.data}/clips"
    folders = {"folder": clips, "repository": clips, "paper": "${paths.data}/videos"}
    for name, entry in manifest().items():
        folder = {"folder": folders[entry.kind]} if entry.kind in folders else {}
        ConfigStore.instance().store(group="video", name=name, node={"name": name} | folder, provider="manifest.toml")


_offer_clips()
offer_entry_points()

_Config = TypeVar("_Config", bound=msgspec.Struct)


def checked(config: DictConfig, kind: type[_Config], choices: type[msgspec.Struct] | None = None) -> _Config:
    """Convert a composed configuration to its type; `paths` is left out, as it serves the other sections.

    A number where text is meant, such as a file called `20240501`, is taken as text.

    Args:
        config: composed by Hydra.
        kind: type of the whole configuration.
        choices: types of sections that `kind` leaves open; their values are checked, and stay dictionaries.

    Raises:
        UserError: a value is missing, of the wrong kind or out of range; the message names the key.
    """
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise UserError(f"{missing[0]} has no default: say {missing[0]}=...")
    values = custom_classes_folded(plain(config))
    values.pop("paths", None)
    values = _numbers_as_text(_with_home(values), kind)
    if choices is not None:
        values = _numbers_as_text(values, choices)
        _converted({name: values[name] for name in choices.__struct_fields__ if name in values}, choices)
    return _converted(values, kind)


def _converted(values: dict[str, Any], kind: type[_Config]) -> _Config:
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        problem, _, where = str(error).partition(" - at `$.")
        key = where.rstrip("`")
        if not key or "[...]" in key:  # msgspec does not name the key of a dictionary's value
            raise UserError(f"{key or 'configuration'}: {problem[:1].lower()}{problem[1:]}") from error
        value, declared = _field(values, kind, key)
        problem = _choices(declared) or problem
        shown = key if isinstance(value, dict) else f"{key}={value}"
        raise UserError(f"{shown}: {problem[:1].lower()}{problem[1:]}") from error


def _choices(declared: Any) -> str:
    """What an option takes whose type has words of its own, as a phrase; empty for other types."""
    if get_origin(declared) is Literal:
        return f"choose one of {', '.join(map(str, get_args(declared)))}"
    words = [str(word) for kind in get_args(declared) if get_origin(kind) is Literal for word in get_args(kind)]
    return f"give a number or {' or '.join(words)}" if words else ""


def _field(values: dict[str, Any], kind: Any, key: str) -> tuple[Any, Any]:
    """The value of a field such as `stages[0].until`, and its type; the type is None below one that holds no struct."""
    value: Any = values
    for name in re.findall(r"[^.[\]]+", key):
        if isinstance(value, list | tuple):
            value, kind = value[int(name)], None
            continue
        fields = msgspec.structs.fields(kind) if isinstance(kind, type) and issubclass(kind, msgspec.Struct) else ()
        value, kind = value[name], next((field.type for field in fields if field.name == name), None)
    return value, kind


def _with_home(values: dict[str, Any]) -> dict[str, Any]:
    """The values with the home folder for `~/` at the beginning of a text, which only paths have."""
    values = dict(values)
    for key, value in values.items():
        if isinstance(value, dict):
            values[key] = _with_home(value)
        elif isinstance(value, str) and value.startswith("~/"):
            values[key] = str(Path(value).expanduser())
    return values


def _numbers_as_text(values: dict[str, Any], kind: type[msgspec.Struct]) -> dict[str, Any]:
    """The values with text for numbers in the fields of a struct, and of those in it, that hold text alone."""
    values = dict(values)
    for field in msgspec.structs.fields(kind):
        value, kinds = values.get(field.name), get_args(field.type) or (field.type,)
        if isinstance(value, dict) and isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            values[field.name] = _numbers_as_text(value, field.type)
        elif isinstance(value, int | float) and not isinstance(value, bool) and {str} <= {*kinds} <= {str, type(None)}:
            values[field.name] = str(value)
    return values


def plain(config: DictConfig) -> dict[str, Any]:
    """The resolved configuration as plain dictionaries and lists."""
    container = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    if not isinstance(container, dict):
        raise TypeError(f"a configuration is a mapping, not {type(container).__name__}")
    return {str(key): value for key, value in container.items()}


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested values as `section.key`, the form of MLflow's parameters."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = str(value)
    return flat
