"""Evaluations from Python."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.errors import HydraException

from vitmalis.errors import UserError
from vitmalis_jobs.api import evaluate


@pytest.mark.parametrize("override", ["experiment=quick", "+clips=embedded"])
def test_a_sweep_is_not_one_run(override: str) -> None:
    with pytest.raises(UserError, match="makes a sweep, and this one run: use the command"):
        evaluate("clock=virtual", override)


@pytest.mark.parametrize("override", ["eval.seconds=ten", "policy=vitmali"])
def test_a_refused_run_leaves_nothing(override: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((HydraException, UserError)):
        evaluate(override)
    assert not list(tmp_path.iterdir())
