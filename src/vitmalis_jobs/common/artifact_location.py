"""Where a SQLite store keeps artifacts, stored so that a project folder can be moved, copied or mounted elsewhere.

MLflow makes every location absolute when it creates an experiment, and every run repeats it, so a moved project would
go on writing to where it was. Locations inside the working directory are therefore stored relative to it; MLflow and
its user interface, which `make ui` starts in the project folder, read them so.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote


def place_artifacts(database: Path, experiment_id: str, artifact_dir: Path, relative: bool) -> None:
    """Mend the artifact location of an experiment, if there is one, and of its runs, if it is not where artifacts are.

    A location that still exists is kept. One that does not (the project was moved), or that is the same folder of
    another project (this one is a copy), becomes `artifact_dir`.

    Args:
        database: absolute path of the store's file.
        experiment_id: of the experiment.
        artifact_dir: absolute path of the folder to use if the stored one does not exist.
        relative: whether to store a folder inside the working directory relative to it.
    """
    from mlflow.utils.file_utils import local_file_uri_to_path
    from mlflow.utils.uri import is_local_uri

    with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        query = "SELECT artifact_location FROM experiments WHERE experiment_id = ?"
        (stored,) = connection.execute(query, [int(experiment_id)]).fetchone() or ("",)
        if not stored or not is_local_uri(stored):
            return
        path = Path(local_file_uri_to_path(stored))
        copied = relative and path.is_absolute() and _same_place(path, artifact_dir)
        existing = artifact_dir if copied else _existing_folder(path, database)
        if existing and not relative and existing == Path.cwd() / path:
            return
        location = _location(existing or artifact_dir, relative)
        if location == stored:
            return
        connection.execute(
            "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?", [location, int(experiment_id)]
        )
        connection.execute(
            "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, ?) "
            "WHERE experiment_id = ? AND substr(artifact_uri, 1, ?) = ?",
            [location, len(stored) + 1, int(experiment_id), len(stored) + 1, f"{stored}/"],
        )


def _existing_folder(path: Path, database: Path) -> Path | None:
    """The folder that a stored path means; a relative one belongs to a folder above the database."""
    return next((base / path for base in database.parents if (base / path).is_dir()), None)


def _same_place(path: Path, artifact_dir: Path) -> bool:
    """Whether a path ends as the artifact folder does inside the working directory, in this or in another project."""
    if not artifact_dir.is_relative_to(Path.cwd()):
        return False
    inside = artifact_dir.relative_to(Path.cwd()).parts
    return path.parts[-len(inside) :] == inside


def _location(folder: Path, relative: bool) -> str:
    """The folder as MLflow stores it; relative only with characters that mean the same in a path and in a URL."""
    if relative and folder.is_relative_to(Path.cwd()):
        path = folder.relative_to(Path.cwd()).as_posix()
        if quote(path) == path:
            return path
    return folder.resolve().as_uri()
