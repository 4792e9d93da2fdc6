"""The model card of the estimators: their data, hyperparameters and scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vitmalis.estimation.estimators import Target
from vitmalis_jobs.training.estimation.error_tables import SHORT
from vitmalis_jobs.training.estimation.mlp import MlpHyperparameters
from vitmalis_jobs.training.estimation.sample_set import SampleSet

CARD_FILE = "card.md"
"""Name of the card next to the estimators."""

_HEAD = """# Estimators of {model}

Made by `python -m training.estimators` on {date}, seed {seed}, for detector {model} {model_id}. The MLPs take the
inputs of the paper's equations 1 and 3 and, for the F1, how unsure the model is of the known objects, as does linear
regression; the offline mean knows the configuration only. *The paper's inputs* is the same MLP without the uncertainty.
All are trained on profile parts, those of the size on one sample per frame, tau_d and quality, as the payload does not
depend on the restoration point. Estimates are clipped to possible values: a size of a byte or more, an F1 of 0..1.

All three accuracy estimators learn the same: the difference in F1 to tau_d 0, quality 95 on the same frame, by its
squared error, weighted by 2 TP + FP + FN. The mean of their estimates is the F1 of all boxes together. The MLP and the
offline mean are monotone: the F1 rises with quality and falls with tau_d, restoration point and what is downsampled.

## Data

| clip | frames of profile part | frames of eval part |
|---|---|---|
{clips}

## Hyperparameters

{hyperparameters}

## Scores

Splits: *held-out parts* trains on the profile parts of all clips and evaluates on their eval parts (later stretches of
the same videos); its estimators are those in the files. *Held-out clips* evaluates on each clip, both parts, after
training on the profile parts of the other clips. Walking clips: {walking}; driving and cycling: {other}. *Corrected by
the last payload* is an extension that is off by default (`SizeCorrection`): estimates are multiplied by actual over
estimated size of the sampled frame before.

Accuracies are weighted by boxes. *Relative accuracy* is the difference to tau_d 0, quality 95 on the same frame: what a
choice among a frame's configurations needs. *Regret* is the F1 that choices lose by being made with estimates: the best
estimate within a latency budget (the quartiles of a frame's configurations, at {uplinks} Mbps, on the paper's
testbed) against the best F1. Part of it is chance in single frames, which no estimator can know.

{tables}"""


Chosen = Mapping[Target, tuple[MlpHyperparameters, str]]
"""Hyperparameters of the MLP of each target, and how they were found."""


def card(rows: SampleSet, chosen: Chosen, tables: str, facts: Mapping[str, Any]) -> str:
    """Format the card as Markdown.

    Args:
        rows: all samples, of any target.
        chosen: hyperparameters of each target.
        tables: of `vitmalis_jobs.training.estimation.error_tables.markdown`.
        facts: model, model_id, date, seed, uplinks, walking and other clips.
    """
    counts = frame_counts(rows).items()
    clips = "\n".join(f"| {clip} | {frames['profile']} | {frames['eval']} |" for clip, frames in counts)
    lines = [f"- {SHORT[target]}: {hyperparameter_line(found)}; {how}." for target, (found, how) in chosen.items()]
    return _HEAD.format(clips=clips, hyperparameters="\n".join(lines), tables=tables, **facts)


def frame_counts(rows: SampleSet) -> dict[str, dict[str, int]]:
    """Numbers of sampled frames: clip to part to count."""
    return {
        str(clip): {
            part: rows.select((rows.clips == clip) & (rows.parts == part)).frames for part in ("profile", "eval")
        }
        for clip in sorted(set(rows.clips))
    }


def hyperparameter_line(chosen: MlpHyperparameters) -> str:
    """Format hyperparameters as one line."""
    layers, logarithm = "-".join(map(str, (*chosen.widths, 1))), " of the logarithm" if chosen.log_target else ""
    return (
        f"{layers}, {chosen.loss} loss{logarithm}, "
        f"{chosen.epochs} epochs of batches of {chosen.batch}, learning rate {chosen.learning_rate:.2g}, weight decay "
        f"{chosen.weight_decay:.2g}, dropout {chosen.dropout:.2f}, input noise {chosen.input_noise:.2f}"
    )
