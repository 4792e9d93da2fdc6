"""Download of one of the paper's videos with yt-dlp."""

from __future__ import annotations

from pathlib import Path

from vitmalis.errors import UserError
from vitmalis.video.manifest import ClipEntry, check_sha256

MAX_HEIGHT = 1080
"""Height of the paper's videos, and the largest one that is requested."""

SUFFIXES = (".mp4", ".webm", ".mkv", ".mov", ".flv", ".3gp", ".avi")
"""Names of the formats that videos are downloaded in."""


def download_video(name: str, entry: ClipEntry, folder: Path) -> Path:
    """Return a video from the cache, or download it; an interrupted download is resumed.

    Args:
        name: the clip's name.
        entry: its entry in the manifest.
        folder: where it is kept as `<name>.<format>`; an incomplete download stays in `partial/`.

    Raises:
        UserError: yt-dlp is not installed, the video cannot be downloaded, or it is not the one of the manifest.
    """
    url = entry.source.split(" ")[0]
    if not url.startswith("youtube.com/"):
        raise UserError(f"video '{name}' cannot be downloaded ({entry.source}): give a file of your own as --source")
    if whole := _downloaded(name, folder):
        return _checked(whole, name, entry)
    try:
        from yt_dlp import YoutubeDL
        from yt_dlp.utils import DownloadError
    except ImportError as error:
        raise UserError(
            f"video '{name}' is downloaded with yt-dlp, which is not installed: pip install 'vitmalis[fetch]', or give "
            "a file of your own as --source"
        ) from error
    partial = folder / "partial"
    partial.mkdir(parents=True, exist_ok=True)
    options = {
        "format": f"bestvideo[height<={MAX_HEIGHT}]/best[height<={MAX_HEIGHT}]",
        "outtmpl": str(partial / f"{name}.%(ext)s"),
        "continuedl": True,
        "quiet": True,
        "no_warnings": True,
        "progress": True,
    }
    try:
        with YoutubeDL(options) as loader:
            downloaded = Path(loader.prepare_filename(loader.extract_info(f"https://www.{url}")))
    except DownloadError as error:
        reason = " ".join(str(error).removeprefix("ERROR: ").split())
        raise UserError(
            f"video '{name}': {url} could not be downloaded ({reason}); the partial download is kept, so try again "
            "later, or give a file of your own as --source"
        ) from error
    # The names of fragments and partial files depend on the format, so only a complete file is moved out of `partial/`.
    return _checked(downloaded.replace(folder / downloaded.name), name, entry)


def _downloaded(name: str, folder: Path) -> Path | None:
    """The video of this name in the cache; other files are not taken for it."""
    found = [path for suffix in SUFFIXES if (path := folder / f"{name}{suffix}").is_file()]
    if len(found) > 1:
        files = ", ".join(path.name for path in found)
        raise UserError(f"video '{name}': {folder} has several files for it ({files}): remove all but one")
    return found[0] if found else None


def _checked(path: Path, name: str, entry: ClipEntry) -> Path:
    """A video, once its checksum is that of the manifest, if the manifest knows one."""
    if entry.sha256:
        check_sha256(path, entry.sha256, f"video '{name}'")
    return path
