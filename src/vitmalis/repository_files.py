"""Files of public repositories at fixed commits: addresses, checksums, and their download, or copies from checkouts."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from vitmalis.errors import UserError
from vitmalis.paths import atomic_path, file_sha256

HOST = "https://raw.githubusercontent.com"


@dataclass(frozen=True, slots=True)
class RepositoryFile:
    """A published file: its repository (`owner/name`) and commit, its path there, and its SHA-256."""

    repository: str
    commit: str
    path: str
    sha256: str

    @property
    def url(self) -> str:
        """Address of the file at the repository's host."""
        return f"{HOST}/{self.repository}/{self.commit}/{quote(self.path)}"

    def below(self, folder: Path) -> Path:
        """Path of the file in a folder that has one folder per repository."""
        return folder / self.repository.rpartition("/")[2] / self.path


def gather(wanted: Sequence[RepositoryFile], folder: Path, mirror: Path | None) -> Iterator[int]:
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


def _fetch(file: RepositoryFile, target: Path, mirror: Path | None) -> None:
    if mirror is not None:
        origin = file.below(mirror)
        if not origin.is_file():
            raise UserError(f"'{origin}' does not exist: --mirror takes a folder with checkouts of the repositories")
        _verify(origin, file, str(origin))
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(target) as temporary:
            shutil.copyfile(origin, temporary)
        return
    download_file(
        file,
        target,
        "finished files are kept, so try again later, or fetch the repositories by other means and give their folder "
        "as --mirror",
    )


def download_file(file: RepositoryFile, target: Path, way_out: str) -> None:
    """Download a file to `target`; an interrupted download is resumed by the next call.

    Args:
        file: the file.
        target: its path, which exists only once the file is complete and verified.
        way_out: what a user without a network can do, for the error.

    Raises:
        UserError: the file cannot be downloaded, or has another checksum.
    """
    from vitmalis.download import DownloadError, download

    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    try:
        download(file.url, part, target.name)
    except DownloadError as error:
        raise UserError(f"{file.url} could not be downloaded ({error}); {way_out}") from error
    try:
        _verify(part, file, file.url)
    except UserError:
        part.unlink()  # complete but wrong, so it must not be resumed
        raise
    part.replace(target)


def _verify(path: Path, file: RepositoryFile, origin: str) -> None:
    found = file_sha256(path)
    if found != file.sha256:
        raise UserError(
            f"{origin} is refused: sha256 {found[:12]}... is not {file.sha256[:12]}... of commit {file.commit[:7]}"
        )
