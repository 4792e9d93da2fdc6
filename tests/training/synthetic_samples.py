"""Synthetic profiling samples whose size and F1 are known, curved functions of the features."""

from __future__ import annotations

import numpy as np
import pandas as pd

from vitmalis_jobs.training.estimation.sample_set import COLUMNS, EVAL, PROFILE

ORIGIN = {"model": "small", "model_id": "one"}
"""Origin of the estimators in tests."""


def synthetic_samples(
    clips: tuple[str, ...] = ("walkA", "walkB", "driveA"), frames: int = 6, seed: int = 0
) -> pd.DataFrame:
    """Six configurations of `frames` frames in each part of each clip."""
    random = np.random.default_rng(seed)
    rows = []
    for clip in clips:
        for part in (PROFILE, EVAL):
            for frame in range(frames):
                motion, downsampled, relevance = random.uniform(0.05, 0.5), random.uniform(0, 1), random.uniform(0, 0.4)
                objects, unsure = int(random.choice([10, 20, 40])), random.uniform(0.1, 0.5)
                for tau, quality, point in [(0, 70, 0), (0, 95, 0), (2, 70, 0), (2, 70, 4), (2, 95, 0), (2, 95, 4)]:
                    moving = downsampled if tau else 0.0
                    payload = 2e4 * np.exp(3 * motion + (quality - 70) / 20) * (1 - 0.7 * moving)
                    found = round(objects * np.clip(1 - 0.6 * moving * relevance * (1 + point), 0, 1))
                    unsure_low = unsure / 3 * (tau > 0)
                    content = (24, 9 * (tau > 0), moving, motion, relevance, relevance / 2, unsure, unsure_low)
                    counts = (found, objects - found, objects - found)
                    outcome = (int(payload), found / objects, *counts)
                    rows.append((clip, part, "tracked", frame, tau, quality, point, *content, *outcome))
    return pd.DataFrame(rows, columns=list(COLUMNS))
