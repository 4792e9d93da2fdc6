"""Download of the sixty measured traces: `python -m vitmalis.network.fetch` (docs/traces.md)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from vitmalis.command_line import CommandLine
from vitmalis.errors import UserError
from vitmalis.network.measured.assemble import make_traces
from vitmalis.network.measured.recipe import recipe
from vitmalis.network.measured.sources import source_files
from vitmalis.paths import cache_dir, data_dir
from vitmalis.repository_files import gather


def build_parser() -> CommandLine:
    """Build the parser of the command line."""
    folder = data_dir() / "traces"
    parser = CommandLine(
        "python -m vitmalis.network.fetch",
        "Download three public data sets of uplink measurements (32 MB) and make 30 4G and 30 5G traces of "
        "300 s from them. Downloaded files are kept, so that an interrupted call is resumed.",
        {"": f"into {folder}", "--output traces": "into another folder"},
        f"Then: python evaluate.py trace=4g trace.source={folder}. Two of the data sets state no licence: use "
        "them and cite them, ask before you redistribute anything (docs/traces.md).",
    )
    parser.add_argument("--output", type=Path, default=folder, help="folder of the traces")
    parser.add_argument(
        "--mirror", type=Path, metavar="FOLDER", help="checkouts of the repositories (default: the network)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Download the sources and make the traces; return the exit status, 2 for a user's mistake or without a network."""
    args = build_parser().parse_args(argv)
    wanted, names = list(source_files().values()), {piece.trace for piece in recipe()}
    folder = cache_dir() / "trace_sources"
    console = Console(stderr=True)
    try:
        with Progress(console=console) as bars:
            downloads = bars.add_task("files", total=len(wanted))
            for done in gather(wanted, folder, args.mirror):
                bars.update(downloads, completed=done)
        with Progress(console=console) as bars:
            traces = bars.add_task("traces", total=len(names))
            for _ in make_traces(folder, args.output):
                bars.advance(traces)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: traces cannot be written: {error}; give another --output or $VITMALIS_CACHE", file=sys.stderr)
        return 2
    print(f"{len(names)} traces in {args.output}: python evaluate.py trace=4g trace.source={args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
