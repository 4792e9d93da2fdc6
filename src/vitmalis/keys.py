"""Command line that makes the keys of a server and its clients: `python -m vitmalis.keys FOLDER`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from vitmalis.command_line import CommandLine
from vitmalis.errors import UserError
from vitmalis.network.wire.security import SERVER, make_keys


def build_parser() -> CommandLine:
    """Build the parser of the command line."""
    parser = CommandLine(
        "python -m vitmalis.keys",
        "Make CURVE keys, with which client and server encrypt and authenticate their connection.",
        {"keys": "for a server and one device", "keys --client phone --client laptop": "for two devices"},
        "FOLDER gets one folder per machine. Move each to its machine over a channel that you trust, then start "
        "`python -m vitmalis.server --keys server` there and `evaluate.py client.keys=device` here. Run it again with "
        "another --client to add one, copy its .key from server/clients to the server, and restart that. To shut one "
        "out, delete its .key there and restart.",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder to make the folders in")
    parser.add_argument(
        "--client", action="append", metavar="NAME", help="name of a client; may be repeated (default: device)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Make keys; return the exit status, 2 for a user's mistake."""
    args = build_parser().parse_args(argv)
    try:
        made = make_keys(args.folder, args.client or ["device"])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: keys cannot be written to '{args.folder}': {error.strerror}", file=sys.stderr)
        return 2
    for path in made:
        use = f"python -m vitmalis.server --keys {path}" if path.name == SERVER else f"evaluate.py client.keys={path}"
        print(f"{path}: {use}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
