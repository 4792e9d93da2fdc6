"""Judge exported weights on held-out frames: `python -m training.evaluate_detector` (configuration: train_detector).

Writes `judgement.json`, a contact sheet per set and `detector_heldout.jpg` (footage that may be shown) to
`train.folder`.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import sys
import time
from pathlib import Path

import cv2
import hydra
import numpy as np
import torch
from omegaconf import DictConfig

from vitmalis.detector import build_model, load_checkpoint, load_into, preset
from vitmalis.detector.fcos import FcosDetector
from vitmalis.errors import UserError
from vitmalis.types import Detections
from vitmalis_jobs.common.config import conf_dir
from vitmalis_jobs.training.detection.clips import MARKET, ClipParts
from vitmalis_jobs.training.detection.contact_sheet import contact_sheet, draw, save_picture
from vitmalis_jobs.training.detection.stability import temporal_stability
from vitmalis_jobs.training.detection.temporal_voting import iou_matrix
from vitmalis_jobs.training.detection.validation_set import judge, predict
from vitmalis_jobs.training.detector import line, make_held_out, read_clips

log = logging.getLogger(__name__)

SHOWN_SCORE = 0.5


def persistence(found: list[Detections], iou: float = 0.5) -> float:
    """Share of boxes with score >= 0.5 that the next frame has again: same class, IoU >= 0.5, score >= 0.5.

    Args:
        found: of consecutive frames.
        iou: least overlap; unlike in `temporal_stability` boxes are not moved, so that fast ones count as lost.
    """
    kept = total = 0
    sure = [detections.above(SHOWN_SCORE) for detections in found]
    for now, following in itertools.pairwise(sure):
        total += len(now)
        if len(now) and len(following):
            same = now.labels[:, None] == following.labels[None]
            kept += int(((iou_matrix(now.boxes_xyxy, following.boxes_xyxy) >= iou) & same).any(1).sum())
    return kept / total if total else float("nan")


def clip_steadiness(model: FcosDetector, parts: ClipParts, frames: int) -> tuple[float, float]:
    """Persistence and temporal stability over `frames` consecutive frames amid a clip's held-out part."""
    start = max(0, (len(parts.held_out) - frames) // 2)
    images = [frame.image() for frame in parts.held_out[start : start + frames]]
    found = [predict(model, image, bf16=False) for image in images]
    return persistence(found), temporal_stability(zip(images, found, strict=True))


def load(config: DictConfig) -> FcosDetector:
    """The exported model, in evaluation mode."""
    path = Path(config.export.path)
    state, _ = load_checkpoint(path)
    model = build_model(preset(config.model).with_window(config.start.window))
    load_into(model, state, str(path))
    if not isinstance(model, FcosDetector):
        raise UserError(f"model={config.model} has no FCOS head: only such models are trained here")
    return model.eval()


def run_judgement(config: DictConfig) -> None:
    """Judge as configured."""
    torch.set_num_threads(config.train.threads)
    cv2.setNumThreads(1)
    folder, model, clips = Path(config.train.folder), load(config), read_clips(config)
    sets = make_held_out(config, clips)
    scores = judge(model, sets, folder / "judgement")
    steadiness = {parts.name: clip_steadiness(model, parts, config.held_out.consecutive) for parts in clips}
    for name, of_set in scores.items():
        log.info("%-18s %s", name, line(of_set))
    for name, (kept, stable) in steadiness.items():
        log.info("%-18s stability %.3f, without optical flow %.3f", name, stable, kept)
    result = {
        "scores": {name: dataclasses.asdict(of_set) for name, of_set in scores.items()},
        "persistence": {name: kept for name, (kept, _) in steadiness.items()},
        "stability": {name: stable for name, (_, stable) in steadiness.items()},
        "seconds": seconds_per_part(model),
    }
    (folder / "judgement.json").write_text(json.dumps(result, indent=1))
    shown = [s for s in sets if s.name == MARKET or s.name.startswith("rendered_")]
    tiles = []
    for held_out in shown:
        frames = held_out.load()
        picked = np.linspace(0, len(frames) - 1, 6 if held_out.name == MARKET else 2).round().astype(int)
        tiles += [draw(frames[i][0], predict(model, frames[i][0], bf16=False)) for i in picked]
    save_picture(folder / "detector_heldout.jpg", contact_sheet(tiles, 4, 400), quality=68)


@torch.inference_mode()
def seconds_per_part(model: FcosDetector, repeats: int = 5) -> dict[str, float]:
    """Median times of a 960x540 frame with the threads that are set: backbone, pyramid, head, and all of it."""
    images, taken = torch.full((1, 3, 540, 960), 90.0), []
    for _ in range(repeats):
        stamps = [time.perf_counter()]
        features = model.backbone.net(model.prepare(images))
        stamps.append(time.perf_counter())
        levels = model.backbone.pyramid(features)
        stamps.append(time.perf_counter())
        model.detect_in(levels, (540, 960))
        stamps.append(time.perf_counter())
        taken.append([*np.diff(stamps), stamps[-1] - stamps[0]])
    medians = np.median(np.array(taken), axis=0)
    return dict(zip(("backbone", "pyramid", "head", "frame"), map(float, medians), strict=True))


@hydra.main(version_base=None, config_path=str(conf_dir()), config_name="train_detector")
def main(config: DictConfig) -> None:
    """Entry point."""
    try:
        run_judgement(config)
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
