"""Means over the last training steps: losses, learning rate, throughput; the device is asked for values once a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from vitmalis.errors import UserError
from vitmalis_jobs.training.detection.trainer import StepReport


@dataclass
class StepLog:
    """The reports of the steps since the last means.

    Attributes:
        step: number of the step before the first of them.
    """

    step: int
    _reports: list[StepReport] = field(default_factory=list)

    def add(self, report: StepReport) -> None:
        """Add the report of a step, whose values the device may still compute."""
        self._reports.append(report)

    def means(self) -> dict[str, float]:
        """Means over the steps since the last call, and none of them left; empty without a step.

        Raises:
            UserError: a loss or the gradient's norm is not finite, so that the weights are lost.
        """
        reports, self._reports = self._reports, []
        if not reports:
            return {}
        values = _finite_values(reports, self.step)
        self.step += len(reports)
        seconds = sum(report.seconds for report in reports) or 1e-9
        return values | {
            "learning_rate": sum(report.learning_rate for report in reports) / len(reports),
            "views_per_s": sum(report.views for report in reports) / seconds,
            "waiting_share": sum(report.waited_s for report in reports) / seconds,
        }


def _finite_values(reports: Sequence[StepReport], step: int) -> dict[str, float]:
    """Means of the values by name, which come from the device in one transfer."""
    table = torch.stack([torch.stack(list(report.values.values())) for report in reports]).cpu().double()
    finite = table.isfinite()
    if not finite.all():
        row, column = (~finite).nonzero()[0].tolist()
        name, value = list(reports[0].values)[column], table[row, column].item()
        raise UserError(
            f"training: {name} is {value} in step {step + row + 1}: start again, from the last checkpoint, with a "
            "lower train.learning_rate or train.clip_norm, or with train.bf16=false"
        )
    return dict(zip(reports[0].values, table.mean(0).tolist(), strict=True))
