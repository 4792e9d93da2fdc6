"""The published files that the measured traces are made from: addresses, checksums and download."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from vitmalis.errors import UserError
from vitmalis.paths import atomic_path, file_sha256

HOST = "https://raw.githubusercontent.com"
REPOSITORIES = {
    "memu": ("NUWiNS/sigcomm-5gmemu-5g-mmWave-uplink-data", "255526a8b067347377016e825090c02ff0fa1315"),
    "wheels": (
        "NUWiNS/imc2023-cellular-network-performance-on-wheels-data",
        "d2e04b4c1f9d5150afae3a2656b1c511dfa865f6",
    ),
    "pam": ("NUWiNS/pam2025-multi-carrier-dataset", "782b712599f3710f7d3acff57097af6ca14660ae"),
}
"""Repository and commit of the files, by a short name."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One published file: short name and path of its repository, and its SHA-256."""

    source: str
    path: str
    sha256: str

    @property
    def url(self) -> str:
        """Address of the file at the repository's host."""
        repository, commit = REPOSITORIES[self.source]
        return f"{HOST}/{repository}/{commit}/{self.path}"

    def below(self, folder: Path) -> Path:
        """Path of the file in a folder that has one folder per repository."""
        return folder / REPOSITORIES[self.source][0].rpartition("/")[2] / self.path


def source_files() -> list[SourceFile]:
    """List all files that the recipe needs."""
    with (Path(str(files("vitmalis.network.measured"))) / "sources.csv").open(newline="") as file:
        return [SourceFile(row["source"], row["file"], row["sha256"]) for row in csv.DictReader(file)]


def gather(wanted: list[SourceFile], folder: Path, mirror: Path | None) -> Iterator[int]:
    """Download the files that are missing in a folder; after each file, yield the number of present files.

    Args:
        wanted: the files.
        folder: where they are kept; complete files of an earlier, interrupted call are not downloaded again.
        mirror: a folder with checkouts of the repositories, used instead of the network.

    Raises:
        UserError: a file cannot be downloaded or copied, or has another checksum.
    """
    for done, file in enumerate(wanted):
        target = file.below(folder)
        if not (target.is_file() and file_sha256(target) == file.sha256):
            _fetch(file, target, mirror)
        yield done + 1


def _fetch(file: SourceFile, target: Path, mirror: Path | None) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if mirror is not None:
        origin = file.below(mirror)
        if not origin.is_file():
            raise UserError(f"'{origin}' does not exist: --mirror takes a folder with checkouts of the repositories")
        _verify(origin, file, str(origin))
        with atomic_path(target) as temporary:
            shutil.copyfile(origin, temporary)
        return
    from vitmalis.download import DownloadError, download

    part = target.with_name(f"{target.name}.part")
    try:
        download(file.url, part, target.name)
    except DownloadError as error:
        raise UserError(
            f"{file.url} could not be downloaded ({error}); finished files are kept, so try again later, or fetch the "
            "repositories by other means and give their folder as --mirror"
        ) from error
    try:
        _verify(part, file, file.url)
    except UserError:
        part.unlink()  # complete but wrong, so it must not be resumed
        raise
    part.replace(target)


def _verify(path: Path, file: SourceFile, origin: str) -> None:
    found = file_sha256(path)
    if found != file.sha256:
        raise UserError(
            f"{origin} is refused: sha256 {found[:12]}... is not {file.sha256[:12]}... of commit "
            f"{REPOSITORIES[file.source][1][:7]}; the traces would be others"
        )
