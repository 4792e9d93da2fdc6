"""The published files that the measured traces are made from."""

from __future__ import annotations

import csv
from importlib.resources import files
from pathlib import Path

from vitmalis.repository_files import RepositoryFile

REPOSITORIES = {
    "memu": ("NUWiNS/sigcomm-5gmemu-5g-mmWave-uplink-data", "255526a8b067347377016e825090c02ff0fa1315"),
    "wheels": (
        "NUWiNS/imc2023-cellular-network-performance-on-wheels-data",
        "d2e04b4c1f9d5150afae3a2656b1c511dfa865f6",
    ),
    "pam": ("NUWiNS/pam2025-multi-carrier-dataset", "782b712599f3710f7d3acff57097af6ca14660ae"),
}
"""Repository and commit of the files, by a short name."""


def source_files() -> dict[tuple[str, str], RepositoryFile]:
    """All files that the recipe needs, by the short name of their repository and their path in it."""
    with (Path(str(files("vitmalis.network.measured"))) / "sources.csv").open(newline="") as file:
        return {
            (row["source"], row["file"]): RepositoryFile(*REPOSITORIES[row["source"]], row["file"], row["sha256"])
            for row in csv.DictReader(file)
        }
