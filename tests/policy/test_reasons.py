"""Every reason of a decision is shown in words."""

from __future__ import annotations

from typing import get_args

from vitmalis.policy.optimizer import Reason
from vitmalis_jobs.run.figures.decision_plot import REASONS


def test_every_reason_has_its_words() -> None:
    assert set(REASONS) == set(get_args(Reason))
