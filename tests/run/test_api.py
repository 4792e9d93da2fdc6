"""Evaluations from Python."""

from __future__ import annotations

import pytest

from vitmalis.errors import UserError
from vitmalis_jobs.api import evaluate


@pytest.mark.parametrize("override", ["experiment=quick", "+clips=embedded"])
def test_a_sweep_is_not_one_run(override: str) -> None:
    with pytest.raises(UserError, match="makes a sweep, and this one run: use the command"):
        evaluate("clock=virtual", override)
