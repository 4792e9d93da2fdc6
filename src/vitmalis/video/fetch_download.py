"""Download of one of the paper's videos with yt-dlp."""

from __future__ import annotations

from pathlib import Path

from vitmalis.errors import UserError
from vitmalis.video.manifest import ClipEntry

MAX_HEIGHT = 1080
"""Height of the paper's videos, and the largest one that is requested."""


def download_video(name: str, entry: ClipEntry, folder: Path) -> Path:
    """Return a video from the cache, or download it; an interrupted download is resumed.

    Args:
        name: the clip's name.
        entry: its entry in the manifest.
        folder: where it is kept as `<name>.<format>`; an incomplete download stays in `partial/`.

    Raises:
        UserError: yt-dlp is not installed, or the video cannot be downloaded.
    """
    url = entry.source.split(" ")[0]
    if not url.startswith("youtube.com/"):
        raise UserError(f"video '{name}' cannot be downloaded ({entry.source}): give a file of your own as --source")
    if whole := sorted(folder.glob(f"{name}.*")):
        return whole[0]
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
    return downloaded.replace(folder / downloaded.name)
