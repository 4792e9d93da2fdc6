"""Fixtures that every part's tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.policy.small_world import write_estimators, write_tables

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The development data next to the checkout; tests that need it skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("the development data (../shared) is not on this machine")
    return SHARED


@pytest.fixture(scope="session")
def vitmalis_options(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Arguments of `build_policy("vitmalis", ...)`: synthetic estimators and tables instead of measured ones."""
    folder = tmp_path_factory.mktemp("estimation")
    write_estimators(folder)
    return {"estimators": str(folder), "latency_tables": str(write_tables(folder / "tables.json"))}
