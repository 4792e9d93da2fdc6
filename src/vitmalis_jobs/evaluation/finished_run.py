"""A finished run, found by its folder or its MLflow run id: its configuration, its references, its artifacts."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import msgspec

from vitmalis.client.session import SESSION_FILE
from vitmalis.detector.model_zoo import is_url
from vitmalis.errors import UserError
from vitmalis.references import Progress
from vitmalis.types import Detections
from vitmalis.video.spec import VideoSpec
from vitmalis_jobs.common.config import mlflow_options
from vitmalis_jobs.common.mlflow_run import Run
from vitmalis_jobs.common.tracking_address import check_server, resolve_address
from vitmalis_jobs.run.config import EvaluationConfig
from vitmalis_jobs.run.directory import RUN_FILE, read_summary
from vitmalis_jobs.run.page.files import PAGE_FILE
from vitmalis_jobs.run.stored_config import read_config


@dataclass(frozen=True, slots=True)
class ReferenceChoice:
    """Whether references are computed, and with which models.

    Attributes:
        wanted: compute them where they are not cached, for the actual F1.
        trust_model: also where the run's folder, which may come from another machine, names a program or an address.
    """

    wanted: bool = True
    trust_model: bool = False

    @classmethod
    def of(cls, options: argparse.Namespace) -> ReferenceChoice:
        """The choice that the options of `add_lookup_options` made."""
        return cls(not getattr(options, "no_reference", False), options.trust_model)


CACHED_OR_COMPUTED = ReferenceChoice()
RUN_HELP = "folder of a run, or its MLflow run id"


def add_lookup_options(parser: argparse.ArgumentParser, *, needs_references: bool = False) -> None:
    """Add the options by which a command finds runs and their references, which it may need in any case."""
    uri = mlflow_options("evaluation").tracking_uri
    parser.add_argument("--tracking-uri", default=uri, help="MLflow store, or address of an MLflow server")
    if not needs_references:
        parser.add_argument(
            "--no-reference",
            action="store_true",
            help="leave out what needs references, as the F1 of frames; needs no model",
        )
    parser.add_argument(
        "--trust-model",
        action="store_true",
        help="also use a model that is a program or comes from an address",
    )


def find_run(run: str, tracking_uri: str) -> Path:
    """The folder of a run.

    Args:
        run: its folder, or its MLflow run id.
        tracking_uri: MLflow store that knows the id.

    Raises:
        UserError: there is no such run, its folder is not on this machine, or the folder is none of a run.
    """
    if not run.strip():
        raise UserError("give the folder of a run, or its MLflow run id")
    folder = Path(run)
    if not folder.is_dir():
        return _run_directory(run, tracking_uri)
    if not any((folder / name).exists() for name in (RUN_FILE, SESSION_FILE, "config.yaml", PAGE_FILE)):
        raise UserError(
            f"'{run}' is no folder of a run; those are runs/evaluations/DAY/TIME and runs/sweeps/SWEEP/NUMBER"
        )
    return folder


def read_run_config(directory: Path) -> EvaluationConfig:
    """The configuration in a run's folder; raises `UserError` where there is none that can be read."""
    path = directory / "config.yaml"
    try:
        return read_config(path)
    except (OSError, msgspec.MsgspecError) as error:
        raise UserError(f"'{path}' is no configuration of an evaluation: {error}") from error


def add_artifact(directory: Path, path: Path, tracking_uri: str) -> None:
    """Add a file to the artifacts of the run, if this MLflow store has it."""
    mlflow_run = mlflow_run_of(directory, tracking_uri)
    if mlflow_run is not None:
        mlflow_run.log_artifact(path)


def mlflow_run_of(directory: Path, tracking_uri: str) -> Run | None:
    """The MLflow run of the run in a folder, to add to it; None if this store does not have it."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    run_id = (read_summary(directory) or {}).get("run_id")
    database = Path(tracking_uri.removeprefix("sqlite:///"))
    if not run_id or (tracking_uri.startswith("sqlite:") and not database.exists()):
        return None
    check_server(tracking_uri)
    client = MlflowClient(tracking_uri=resolve_address(tracking_uri)[1])
    try:
        return Run(client, client.get_run(str(run_id)).info, tracking_uri)
    except MlflowException:  # it is a run of another store
        return None


def run_references(
    clip: VideoSpec,
    config: EvaluationConfig,
    choice: ReferenceChoice,
    frames: range,
    progress: Progress = lambda done, total: None,
) -> list[Detections] | None:
    """References of some frames of a run, from the cache where possible; None where they are unwanted or mean nothing.

    Args:
        clip: that was played.
        config: of the run, which names the model.
        choice: whether they are wanted, and from which models.
        frames: consecutive ones of the played part.
        progress: called with the references that are there and those in all.

    Raises:
        UserError: the model is one that needs trust.
    """
    from vitmalis.detector.loading import load_any_detector
    from vitmalis_jobs.common.detectors import boxes_cache, has_random_weights
    from vitmalis_jobs.run.execute import references_of

    if not choice.wanted or has_random_weights(config.model):
        return None
    model = config.model
    program = model.config or (model.custom.target if model.custom else "")
    origin = program or model.weights or ""
    if not choice.trust_model and (program or is_url(origin)):
        raise UserError(
            f"the run's folder names '{origin}' as its model, a program or an address: --trust-model uses it, "
            "--no-reference leaves the actual F1 out"
        )
    detector = load_any_detector(config.model.name, **config.model.detector_options)
    # With hysteresis a frame's references depend on the frames before it.
    first = frames.start if config.references.hysteresis is None else 0
    part = part_of(clip, first, frames.stop - first)
    return references_of(part, detector, config.references, boxes_cache(config.model), progress)[frames.start - first :]


def part_of(clip: VideoSpec, first: int, frames: int) -> VideoSpec:
    """The clip cut to some frames of its played part, from its frame `first`."""
    return msgspec.structs.replace(clip, start_frame=clip.start_frame + first, frames=frames)


def _run_directory(run_id: str, tracking_uri: str) -> Path:
    """Folder of a run that MLflow knows."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    database = Path(tracking_uri.removeprefix("sqlite:///"))
    if tracking_uri.startswith("sqlite:") and not database.exists():
        raise UserError(f"run '{run_id}': no such folder, and there is no MLflow store {database} (--tracking-uri)")
    check_server(tracking_uri)
    try:
        tags = MlflowClient(tracking_uri=resolve_address(tracking_uri)[1]).get_run(run_id).data.tags
    except MlflowException as error:
        raise UserError(f"run '{run_id}': neither a folder nor a run id of {tracking_uri}") from error
    run_dir = Path(tags.get("run_dir", "unknown"))
    # A relative folder belongs to the project of the store, which need not be the working directory.
    for base in (Path(), *database.absolute().parents):
        if (base / run_dir).is_dir():
            return base / run_dir
    raise UserError(f"run '{run_id}': its folder '{run_dir}' is not on this machine")
