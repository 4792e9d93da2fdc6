"""Evaluate a detector on the validation sets: `python -m training.evaluate_detector` (conf/train_detector.yaml).

The weights are those of `start.weights`, such as a training's `best.pt`, or else those that come with the package. They
are scored against labels, and on clips as runs play them against their own boxes (see `OwnBoxScores`).
Writes `evaluation.json`, a contact sheet of each set and `detector_heldout.jpg` (footage that may be published) to
`train.folder`.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from omegaconf import DictConfig

from vitmalis.detector import preset
from vitmalis.detector.config import FcosConfig
from vitmalis.detector.detector import weights_files
from vitmalis.detector.fcos import FcosDetector
from vitmalis.detector.sources import model_with_weights
from vitmalis.errors import UserError
from vitmalis.paths import atomic_path
from vitmalis_jobs.common.cli import hydra_job
from vitmalis_jobs.common.config import checked
from vitmalis_jobs.common.machine_load import LoadMeter
from vitmalis_jobs.training.detection.calibration import best_thresholds
from vitmalis_jobs.training.detection.config import DetectorTrainingConfig
from vitmalis_jobs.training.detection.contact_sheet import contact_sheet, draw, save_image
from vitmalis_jobs.training.detection.played_clips import OwnBoxScores, own_box_scores, played_clips
from vitmalis_jobs.training.detection.prepared_frames import MARKET
from vitmalis_jobs.training.detection.street_frames import read_street
from vitmalis_jobs.training.detection.training_data import FRAME_SIZE, read_clips, validation_sets
from vitmalis_jobs.training.detection.validation_set import (
    SetScores,
    ValidationSet,
    evaluate,
    evenly_spaced,
    predict,
)

log = logging.getLogger(__name__)


def trained_model(
    model: str, weights: str | Path | None, window: int | None, downsampling_factor: int = 2
) -> FcosDetector:
    """Load a model that can be trained here, in evaluation mode.

    Args:
        model: name of the preset.
        weights: file of the weights, or None; see `weights_files`.
        window: side of the attention windows in tokens that the model was trained with; None for the preset's.
        downsampling_factor: d, of the regions at low resolution in training.

    Raises:
        UserError: the weights are missing or of another model, or the model has no FCOS head.
    """
    config = preset(model).with_geometry(window, downsampling_factor)
    if not isinstance(config.head, FcosConfig):
        raise UserError(f"model={model} has no FCOS head: only such models are trained here")
    built, _ = model_with_weights(config, None, weights_files(config, weights), window, downsampling_factor)
    assert isinstance(built, FcosDetector)
    return built.eval()


def played_scores(model: FcosDetector, config: DetectorTrainingConfig) -> dict[str, OwnBoxScores]:
    """Score a model on the played clips that are available, and log a line for each and for those left out."""
    clips, left_out = played_clips(config)
    for name, reason in left_out.items():
        log.warning("%s is left out: %s", name, reason)
    scores = {}
    for name, clip in clips.items():
        scores[name] = own_box_scores(partial(predict, model), clip, config.held_out)
        log.info("%-18s %s", name, scores[name].line())
    return scores


def overview(model: FcosDetector, sets: list[ValidationSet], path: Path) -> None:
    """Draw detections in six frames of `market1906` and two of each rendered profile as one contact sheet."""
    tiles = []
    for validation_set in sets:
        if validation_set.name == MARKET or validation_set.name.startswith("rendered_"):
            frames = validation_set.load()
            chosen = evenly_spaced(len(frames), 6 if validation_set.name == MARKET else 2)
            tiles += [draw(frames[i][0], predict(model, frames[i][0])) for i in chosen]
    if tiles:
        save_image(path, contact_sheet(tiles, 4, 400), quality=68)


@torch.inference_mode()
def seconds_per_part(model: FcosDetector, repeats: int = 5) -> dict[str, float]:
    """Median seconds for a 960x540 frame with the threads that are set: backbone, pyramid, head and whole frame."""
    images, durations_s = torch.full((1, 3, 540, 960), 90.0), []
    for _ in range(repeats):
        stamps = [time.perf_counter()]
        features = model.backbone.net(model.prepare(images))
        stamps.append(time.perf_counter())
        levels = model.backbone.pyramid(features)
        stamps.append(time.perf_counter())
        model.detect_in(levels, (540, 960))
        stamps.append(time.perf_counter())
        durations_s.append([*np.diff(stamps), stamps[-1] - stamps[0]])
    medians = np.median(np.array(durations_s), axis=0)
    return dict(zip(("backbone", "pyramid", "head", "frame"), map(float, medians), strict=True))


def result_of(scores: Mapping[str, SetScores], played: Mapping[str, OwnBoxScores]) -> dict[str, Any]:
    """The scores as they are written: by kind, then by validation set or clip."""
    thresholds = best_thresholds(list(scores.values()))
    return {
        "scores": {name: dataclasses.asdict(of_set.full) for name, of_set in scores.items()},
        "half_size_scores": {name: dataclasses.asdict(of_set.half_size) for name, of_set in scores.items()},
        "validation_halved_f1": {name: of_set.halved_f1 for name, of_set in scores.items()},
        "best_thresholds": {size: best and dataclasses.asdict(best) for size, best in thresholds.items()},
    } | {
        field.name: {name: getattr(of_clip, field.name) for name, of_clip in played.items()}
        for field in dataclasses.fields(OwnBoxScores)
    }


def evaluate_detector(config: DetectorTrainingConfig) -> None:
    """Score the configured weights and time them; log the result and write it into the folder."""
    torch.set_num_threads(config.train.threads)
    cv2.setNumThreads(1)
    folder = Path(config.train.folder)
    start = config.start
    model = trained_model(config.model.name, start.weights, start.window, start.downsampling_factor)
    street = read_street(config.street, FRAME_SIZE)
    sets = validation_sets(config, read_clips(config.clips), street)
    scores = evaluate(model, sets, folder / "evaluation")
    for name, of_set in scores.items():
        log.info("%-18s %s", name, of_set.line())
    for size, best in best_thresholds(list(scores.values())).items():
        log.info("best score threshold, %s: %s", size.replace("_", " "), best)
    played = played_scores(model, config)
    meter = LoadMeter()
    seconds, load = seconds_per_part(model), meter.load()
    if load.reasons:
        log.warning("the durations are too long: %s", " and ".join(load.reasons))
    with atomic_path(folder / "evaluation.json") as temporary:
        temporary.write_text(json.dumps(result_of(scores, played) | {"seconds": seconds} | load.facts, indent=1))
    overview(model, sets, folder / "detector_heldout.jpg")


@hydra_job(
    "train_detector",
    {
        "": "the weights in the package",
        "start.weights=runs/training/vitdet_tiny/best.pt": "those of a training",
    },
)
def main(config: DictConfig) -> None:
    """Evaluate the detector as the command line says."""
    evaluate_detector(checked(config, DetectorTrainingConfig))


if __name__ == "__main__":
    sys.exit(main())
