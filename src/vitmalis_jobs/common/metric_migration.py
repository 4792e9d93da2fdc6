"""Renames the metrics of runs that an earlier version made, so that they share columns and charts with new ones."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from vitmalis_jobs.common.metric_names import MLFLOW_NAMES

_OWN_TAGS = ("config_hash", "sweep.command")
"""A tag that evaluations have, and one that sweeps have; other runs of the experiment keep their names."""


def rename_metrics(database: Path, experiment_id: str) -> None:
    """Give the metrics of an experiment's evaluations and sweeps their names in `MLFLOW_NAMES`; all of them or none.

    Args:
        database: file of a SQLite store.
        experiment_id: of the experiment.
    """
    with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        connection.execute("CREATE TEMP TABLE renamed (old TEXT PRIMARY KEY, new TEXT)")
        connection.executemany("INSERT INTO renamed VALUES (?, ?)", MLFLOW_NAMES.items())
        for table in ("metrics", "latest_metrics"):
            connection.execute(
                f"UPDATE OR IGNORE {table} SET key = (SELECT new FROM renamed WHERE old = key) "
                "WHERE key IN (SELECT old FROM renamed) AND run_uuid IN (SELECT runs.run_uuid FROM runs "
                "JOIN tags ON tags.run_uuid = runs.run_uuid WHERE runs.experiment_id = ? AND tags.key IN (?, ?))",
                [int(experiment_id), *_OWN_TAGS],
            )
