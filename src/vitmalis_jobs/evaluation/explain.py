"""Plot why an offload was configured as it was, and its outcome: `python -m evaluation.explain RUN --offload K`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from vitmalis.client.session import SESSION_FILE, ClientSession, read_session
from vitmalis.detector.model_zoo import is_url
from vitmalis.errors import UserError
from vitmalis.metrics import MatchRule
from vitmalis.records import DecisionRecord
from vitmalis.types import Detections, RgbImage
from vitmalis.video.spec import VideoSpec, open_video
from vitmalis_jobs.common.cli import program, run_job
from vitmalis_jobs.common.config import mlflow_options
from vitmalis_jobs.common.tracking_address import check_server, resolve_address
from vitmalis_jobs.run.config import EvaluationConfig, read_config
from vitmalis_jobs.run.directory import read_summary
from vitmalis_jobs.run.figures.comparison_video import save_png
from vitmalis_jobs.run.figures.decision_plot import draw_decision, draw_regions, most_varied
from vitmalis_jobs.run.record_checks import check_records
from vitmalis_jobs.run.records import RunRecords, read_records


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw as the command line says; returns the exit status: 0, or 2 for a user's mistake."""
    parser = argparse.ArgumentParser(prog=program("evaluation.explain"), description=__doc__.partition(": `")[0])
    parser.add_argument("run", help="folder of a run, or its MLflow run id")
    parser.add_argument("--offload", type=int, help="number of the offload (default: one with many region types)")
    uri = mlflow_options("evaluation").tracking_uri
    parser.add_argument("--tracking-uri", default=uri, help="MLflow store (default: %(default)s)")
    parser.add_argument("--no-reference", action="store_true", help="leave the actual F1 out; needs no model")
    parser.add_argument(
        "--trust-model",
        action="store_true",
        help="also use a model that is a program or comes from an address",
    )
    options = parser.parse_args(arguments)
    choice = ReferenceChoice(not options.no_reference, options.trust_model)
    return run_job(lambda: print(explain(options.run, options.offload, options.tracking_uri, choice)))


@dataclass(frozen=True, slots=True)
class ReferenceChoice:
    """Whether the frame's reference is computed, and with which models.

    Attributes:
        wanted: compute it where it is not cached, for the actual F1.
        trust_model: also where the run's folder, which may come from another machine, names a program or an address.
    """

    wanted: bool = True
    trust_model: bool = False


def explain(
    run: str, offload_id: int | None, tracking_uri: str, reference: ReferenceChoice = ReferenceChoice()
) -> Path:
    """Draw a decision of a run into the run's folder and, where the run is known to MLflow, its artifacts.

    Args:
        run: its folder, or its MLflow run id.
        offload_id: number of the offload; None for one with many region types.
        tracking_uri: MLflow store, whatever the run's own folder says.
        reference: whether the frame's reference is computed.

    Returns:
        File of the plot.

    Raises:
        UserError: there is no such run or offload, the offload's decision was not explained, or the folder's files do
            not fit together.
    """
    directory = Path(run) if Path(run).is_dir() else _run_directory(run, tracking_uri)
    records = read_records(directory)
    decision = _decision(records, offload_id)
    path = directory / f"decision_{decision.offload_id}.png"
    _draw(directory, records, decision, path, reference=reference)
    _log(directory, path, tracking_uri)
    return path


def draw_typical(directory: Path, regions: Path, decision: Path) -> None:
    """Draw one decision of a run, and the regions that it saw, into two files; no model is needed.

    Raises:
        UserError: the run's decisions were not explained, or its clip is gone.
    """
    records = read_records(directory)
    shown = _decision(records, None)
    _draw(directory, records, shown, decision, regions, reference=ReferenceChoice(wanted=False))


def _draw(
    directory: Path,
    records: RunRecords,
    shown: DecisionRecord,
    decision: Path,
    regions: Path | None = None,
    *,
    reference: ReferenceChoice,
) -> None:
    session, config = read_session(directory / SESSION_FILE), _config(directory)
    if session.video.live:
        raise UserError(f"'{directory}': video '{session.video.name}' was live, so that its frames are gone")
    check_records(directory, records, session.video, session.geometry)
    grid = session.geometry.grid(session.video.width, session.video.height)
    offload = next(o for o in records.offloads if o.offload_id == shown.offload_id)
    boxes = _reference(session, config, shown.frame_index, reference.trust_model) if reference.wanted else None
    rule = MatchRule(config.eval.iou_threshold, config.eval.score_threshold)
    image = frame_image(session.video, shown.frame_index)
    draw_decision(decision, image, grid, shown, offload, boxes, rule)
    if regions is not None:
        save_png(regions, draw_regions(image, grid, shown))


def frame_image(clip: VideoSpec, frame_index: int) -> RgbImage:
    """A frame of the played part, RGB uint8 (H, W, 3)."""
    return next(iter(open_video(part_of(clip, frame_index, 1))))


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


def _config(directory: Path) -> EvaluationConfig:
    path = directory / "config.yaml"
    try:
        return read_config(path)
    except (OSError, msgspec.MsgspecError) as error:
        raise UserError(f"'{path}' is no configuration of an evaluation: {error}") from error


def _log(directory: Path, path: Path, tracking_uri: str) -> None:
    """Add the plot to the artifacts of the run, if this MLflow store has it."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    run_id = (read_summary(directory) or {}).get("run_id")
    database = Path(tracking_uri.removeprefix("sqlite:///"))
    if not run_id or (tracking_uri.startswith("sqlite:") and not database.exists()):
        return
    check_server(tracking_uri)
    with suppress(MlflowException):  # it is a run of another store
        MlflowClient(tracking_uri=resolve_address(tracking_uri)[1]).log_artifact(str(run_id), str(path))


def _decision(records: RunRecords, offload_id: int | None) -> DecisionRecord:
    if not records.decisions:
        raise UserError("this run's policy does not explain its decisions: take a run of vitmalis or of an ablation")
    by_id = {decision.offload_id: decision for decision in records.decisions}
    if offload_id is None:
        return most_varied(records.decisions, records.offloads) or records.decisions[0]
    if offload_id not in by_id:
        raise UserError(f"--offload {offload_id}: this run has offloads {min(by_id)} to {max(by_id)}")
    return by_id[offload_id]


def _reference(
    session: ClientSession, config: EvaluationConfig, frame_index: int, trust_model: bool
) -> Detections | None:
    from vitmalis.detector.detector import load_detector
    from vitmalis_jobs.common.detectors import boxes_cache, has_random_weights
    from vitmalis_jobs.run.execute import references_of

    if has_random_weights(config.model):
        return None
    origin = config.model.config or config.model.weights or ""
    if not trust_model and (config.model.config or is_url(origin)):
        raise UserError(
            f"the run's folder names '{origin}' as its model, a program or an address: --trust-model uses it, "
            "--no-reference leaves the actual F1 out"
        )
    detector = load_detector(config.model.name, **config.model.detector_options)
    # With hysteresis a frame's references depend on the frames before it.
    first = frame_index if config.references.hysteresis is None else 0
    clip = part_of(session.video, first, frame_index + 1 - first)
    return references_of(clip, detector, config.references, boxes_cache(config.model))[-1]


if __name__ == "__main__":
    sys.exit(main())
