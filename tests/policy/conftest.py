"""Small estimators and latency tables, so that vitmalis runs without any measured ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.policy.small_world import write_estimators, write_tables


@pytest.fixture(scope="session")
def vitmalis_options(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Arguments of `build_policy("vitmalis", ...)`."""
    folder: Path = tmp_path_factory.mktemp("estimation")
    write_estimators(folder)
    return {"estimators": str(folder), "latency_tables": str(write_tables(folder / "tables.json"))}
