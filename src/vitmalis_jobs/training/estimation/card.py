"""The card beside the estimators: from what they were made, how, and how well they do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vitmalis.estimation.estimators import Target
from vitmalis_jobs.training.estimation.mlp import MlpPlan
from vitmalis_jobs.training.estimation.samples import SampleSet
from vitmalis_jobs.training.estimation.tables import SHORT

_HEAD = """# Estimators of {model}

Made by `python -m training.estimators` on {date}, seed {seed}, for detector {model} {model_id}. The MLPs take the
inputs of the paper's equations 1 and 3; linear regression takes the same; the offline mean knows the configuration
only. All are learned from profile parts. Size estimates were learned from one sample per frame, tau_d and quality, as
the payload does not depend on the restoration point. All estimates are clipped to what can be: a size of a byte or
more, an F1 of 0..1.

## Data

| clip | frames of profile part | frames of eval part |
|---|---|---|
{clips}

## Chosen plans

{plans}

## Scores

Splits: *held-out parts* learns from the profile parts of all clips and judges on their eval parts (later stretches of
the same videos), and its estimators are those in the files; *held-out clips* judges on each clip's eval part after
learning from the other clips only. Walking clips: {walking}; driving and cycling: {other}. *Corrected by the last
payload* is an extension that is off by default (`SizeCorrection`): estimates times actual over estimated size of the
sampled frame before.

{tables}"""


def card(rows: SampleSet, plans: Mapping[Target, tuple[MlpPlan, str]], tables: str, facts: Mapping[str, Any]) -> str:
    """Markdown.

    Args:
        rows: all samples, of any target.
        plans: chosen plan of each target, and how it was found.
        tables: of `vitmalis_jobs.training.estimation.tables.markdown`.
        facts: model, model_id, date, seed, walking and other clips.
    """
    clips = "\n".join(f"| {clip} | {counts['profile']} | {counts['eval']} |" for clip, counts in frames(rows).items())
    chosen = "\n".join(f"- {SHORT[target]}: {describe(plan)}; {how}." for target, (plan, how) in plans.items())
    return _HEAD.format(clips=clips, plans=chosen, tables=tables, **facts)


def frames(rows: SampleSet) -> dict[str, dict[str, int]]:
    """Sampled frames of each part of each clip."""
    return {
        str(clip): {
            part: rows.select((rows.clips == clip) & (rows.parts == part)).frames for part in ("profile", "eval")
        }
        for clip in sorted(set(rows.clips))
    }


def describe(plan: MlpPlan) -> str:
    """A plan in a line."""
    return (
        f"{'-'.join(map(str, (*plan.widths, 1)))}, {plan.loss} loss{' of the logarithm' if plan.log_target else ''}, "
        f"{plan.epochs} epochs of batches of {plan.batch}, learning rate {plan.learning_rate:.2g}, weight decay "
        f"{plan.weight_decay:.2g}, dropout {plan.dropout:.2f}, input noise {plan.input_noise:.2f}"
    )
