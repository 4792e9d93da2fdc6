"""Evaluate a detector on the validation sets: `python -m training.evaluate_detector` (conf/train_detector.yaml).

The weights are those of `start.weights`, such as a training's `best.pt`, or else those that come with the package.
Writes `evaluation.json`, a contact sheet of each set and `detector_heldout.jpg` (footage that may be published) to
`train.folder`.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from omegaconf import DictConfig

from vitmalis.detector import preset
from vitmalis.detector.config import FcosConfig
from vitmalis.detector.detector import weights_path
from vitmalis.detector.fcos import FcosDetector
from vitmalis.detector.sources import model_with_weights
from vitmalis.errors import UserError
from vitmalis.paths import atomic_path
from vitmalis_jobs.common.cli import hydra_job
from vitmalis_jobs.common.config import checked
from vitmalis_jobs.common.machine_load import LoadMeter
from vitmalis_jobs.training.detection.config import DetectorTrainingConfig
from vitmalis_jobs.training.detection.contact_sheet import contact_sheet, draw, save_image
from vitmalis_jobs.training.detection.detection_scores import score_line, shown
from vitmalis_jobs.training.detection.labelled_clips import LabelledClip
from vitmalis_jobs.training.detection.prepared_frames import MARKET
from vitmalis_jobs.training.detection.stability import persistence, temporal_stability
from vitmalis_jobs.training.detection.street_frames import read_street
from vitmalis_jobs.training.detection.training_data import FRAME_SIZE, read_clips, validation_sets
from vitmalis_jobs.training.detection.validation_set import ValidationSet, evaluate, evenly_spaced, predict

log = logging.getLogger(__name__)


def trained_model(
    model: str, weights: str | Path | None, window: int | None, downsampling_factor: int = 2
) -> FcosDetector:
    """Load a model that can be trained here, in evaluation mode.

    Args:
        model: name of the preset.
        weights: file of the weights, or None; see `weights_path`.
        window: side of the attention windows in tokens that the model was trained with; None for the preset's.
        downsampling_factor: d, of the regions at low resolution in training.

    Raises:
        UserError: the weights are missing or of another model, or the model has no FCOS head.
    """
    config = preset(model).with_geometry(window, downsampling_factor)
    if not isinstance(config.head, FcosConfig):
        raise UserError(f"model={model} has no FCOS head: only such models are trained here")
    built, _ = model_with_weights(config, None, weights_path(config, weights), window, downsampling_factor)
    assert isinstance(built, FcosDetector)
    return built.eval()


def clip_stability(model: FcosDetector, clip: LabelledClip, frames: int) -> tuple[float | None, float | None]:
    """Persistence and temporal stability over `frames` consecutive frames in the middle of a clip's validation part."""
    start = max(0, (len(clip.validation) - frames) // 2)
    images = [frame.image() for frame in clip.validation[start : start + frames]]
    found = [predict(model, image) for image in images]
    return persistence(found), temporal_stability(zip(images, found, strict=True))


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


def evaluate_detector(config: DetectorTrainingConfig) -> None:
    """Score the configured weights and time them; log the result and write it into the folder."""
    torch.set_num_threads(config.train.threads)
    cv2.setNumThreads(1)
    folder = Path(config.train.folder)
    start = config.start
    model = trained_model(config.model.name, start.weights, start.window, start.downsampling_factor)
    clips, street = read_clips(config.clips), read_street(config.street, FRAME_SIZE)
    sets = validation_sets(config, clips, street)
    scores = evaluate(model, sets, folder / "evaluation")
    stability = {clip.name: clip_stability(model, clip, config.held_out.consecutive) for clip in clips}
    for name, set_scores in scores.items():
        log.info("%-18s %s", name, score_line(set_scores))
    for name, (kept, stable) in stability.items():
        log.info("%-18s stability %s, without optical flow %s", name, shown(stable), shown(kept))
    meter = LoadMeter()
    seconds, load = seconds_per_part(model), meter.load()
    if load.reasons:
        log.warning("the durations are too long: %s", " and ".join(load.reasons))
    result = {
        "scores": {name: dataclasses.asdict(set_scores) for name, set_scores in scores.items()},
        "persistence": {name: kept for name, (kept, _) in stability.items()},
        "stability": {name: stable for name, (_, stable) in stability.items()},
        "seconds": seconds,
    } | load.facts
    with atomic_path(folder / "evaluation.json") as temporary:
        temporary.write_text(json.dumps(result, indent=1))
    overview(model, sets, folder / "detector_heldout.jpg")


@hydra_job("train_detector")
def main(config: DictConfig) -> None:
    """Evaluate the detector as the command line says."""
    evaluate_detector(checked(config, DetectorTrainingConfig))


if __name__ == "__main__":
    sys.exit(main())
