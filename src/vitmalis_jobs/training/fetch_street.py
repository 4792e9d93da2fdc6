"""Download public images and videos, and make street frames of them: `python -m training.fetch_street`.

The detector's training reads the folder (`street` in conf/train_detector.yaml) once it also holds a `labels.csv`, which
is not published: bring labels of your own (docs/model_card.md). Each of the 342 files (143 MB) is checked against its
SHA-256 and kept, so that an interrupted call is resumed. `sources.csv` in the folder lists the licence of each source.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from vitmalis.command_line import CommandLine
from vitmalis.errors import UserError
from vitmalis.paths import cache_dir, data_dir
from vitmalis.repository_files import gather
from vitmalis_jobs.common.checks import check_writable
from vitmalis_jobs.common.cli import job_parser, option_job
from vitmalis_jobs.training.detection.csv_rows import read_rows
from vitmalis_jobs.training.street.frames import write_frames
from vitmalis_jobs.training.street.sources import StreetSource, street_sources, write_sources


def command_line() -> CommandLine:
    """The options of this job."""
    parser = job_parser(
        "training.fetch_street",
        "Download public images and videos (342 files, 143 MB) and make street frames of them, to train on.",
        {
            "": "into data/street",
            "--clear --output data/street_clear": "only sources whose licence is clear",
        },
        "The detector's training reads the folder once it also holds a labels.csv, which is not published: bring "
        "labels of your own (docs/model_card.md). Files are checked against their SHA-256 and kept, so that an "
        "interrupted call is resumed. sources.csv lists the licence of each source.",
    )
    parser.add_argument("--output", type=Path, default=data_dir() / "street", help="folder of the frames")
    parser.add_argument(
        "--mirror", type=Path, metavar="FOLDER", help="checkouts of the repositories (default: the network)"
    )
    parser.add_argument("--clear", action="store_true", help="leave out sources whose licence is to be checked")
    return parser


def fetch_street(folder: Path, mirror: Path | None = None, *, clear: bool = False) -> None:
    """Make the street frames in a folder, and print how many they are.

    Args:
        folder: for the frames and their `sources.csv`, which is written last.
        mirror: a folder with checkouts of the repositories, used instead of the network.
        clear: whether to leave out sources whose licence is to be checked first.

    Raises:
        UserError: a file cannot be downloaded or is not the published one, or the folder has sources of the user's own.
    """
    sources = [source for source in street_sources() if source.is_clear or not clear]
    listing = folder / "sources.csv"
    _refuse_others(listing, sources)
    originals = cache_dir() / "street_sources"
    frames = 0
    with Progress(console=Console(stderr=True)) as bars:
        downloads, cuts = (bars.add_task(name, total=len(sources)) for name in ("files", "frames"))
        for done in gather([source.file for source in sources], originals, mirror):
            bars.update(downloads, completed=done)
        check_writable(folder)
        for source in sources:
            frames += write_frames(source, source.file.below(originals), folder)
            bars.advance(cuts)
    write_sources(sources, listing)
    print(f"{frames} frames in {folder}; their labels.csv is yours to bring: docs/model_card.md has its format")


def _refuse_others(listing: Path, sources: Sequence[StreetSource]) -> None:
    """Raise `UserError` if the table of a folder has sources that writing it again would remove."""
    if listing.is_file():
        known = {source.prefix for source in sources}
        others = [row.values["prefix"] for row in read_rows(listing, "street table", ["prefix"])]
        if own := sorted(set(others) - known):
            raise UserError(f"'{listing}' has other sources, such as '{own[0]}': give another --output")


main = option_job(command_line, lambda options: fetch_street(options.output, options.mirror, clear=options.clear))


if __name__ == "__main__":
    sys.exit(main())
