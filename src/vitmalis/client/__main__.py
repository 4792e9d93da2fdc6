"""`python -m vitmalis.client --session session.json`: play a session and write its records."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from pathlib import Path

import cv2
import msgspec

from vitmalis.client.outputs import Outputs
from vitmalis.client.realtime import RealtimeClient
from vitmalis.client.record_files import RecordSaver, check_output
from vitmalis.client.session import ClientSession, read_session
from vitmalis.command_line import CommandLine
from vitmalis.errors import UserError
from vitmalis.process import Interrupts, announce_ready, exit_on_stdin_eof, log_to

SWITCH_INTERVAL_S = 0.0005
"""Longest time for which a thread that runs Python keeps another waiting that has come back from decoding or encoding.

With Python's 5 ms, which it may wait several times for each frame, decoding 1080p next to a busy thread took up to 27 %
longer.
"""


def build_parser() -> CommandLine:
    """Build the parser of the command line."""
    parser = CommandLine(
        "python -m vitmalis.client",
        "Play a clip as a camera, offload its frames, render; write frames.parquet and offloads.parquet.",
        {
            "--session session.json --address tcp://edge:5555 --keys device": "a server on another machine",
            "--session session.json --record camera.mkv": "keep what the camera delivers, to score it later",
        },
        "evaluate.py writes the session file (session.json in a run's folder) and starts this; the records are "
        "the same either way.",
    )
    add = parser.add_argument
    add(
        "--session",
        type=Path,
        metavar="FILE",
        required=True,
        help="JSON file that describes the session",
    )
    add("--address", help="tcp://host:port of the server; $VARIABLES are filled in (default: the session's)")
    add("--keys", metavar="FOLDER", help="this client's keys, of python -m vitmalis.keys (default: the session's)")
    add("--output", metavar="FOLDER", help="folder for the records (default: the session's)")
    add("--log", metavar="FILE", help="log file, emptied at 10 MB (default: standard error)")
    add("--record", metavar="FILE", type=Path, help="video file for what the camera delivers (default: none)")
    add("--view", metavar="SOCKET", help="Unix socket of a viewer, as evaluate.py has one (default: none)")
    add("--threads", type=int, default=1, help="OpenCV threads")
    return parser


def main() -> int:
    """Play the session of the command line; return the exit status: 0, 2 for a user's mistake, 130 if interrupted."""
    arguments = build_parser().parse_args()
    interrupts = Interrupts()
    exit_on_stdin_eof()
    cv2.setNumThreads(arguments.threads)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        log_to(arguments.log)
        session = read_session(arguments.session)
        address = os.path.expandvars(arguments.address or session.server_address)
        changes = {"output_dir": arguments.output, "keys": arguments.keys}
        given = {name: value for name, value in changes.items() if value is not None}
        session = msgspec.structs.replace(session, server_address=address, **given)
        return play(session, interrupts, Outputs(arguments.record, arguments.view, session.video.fps))
    except UserError as error:
        with suppress(OSError):  # the log may lie on the full disk that this is about
            print_json({"error": str(error)})
            print(f"error: {error}", file=sys.stderr)
        return 2


def play(session: ClientSession, interrupts: Interrupts, outputs: Outputs) -> int:
    """Play a session and save its records, which say how it ended; return the exit status, 0 or 130.

    Progress goes to standard output, one JSON object a line, and so do warnings.
    """

    def progress(frames: int, offloads: int, lost: int) -> None:
        print_json({"progress": frames, "frames": session.video.frames, "offloads": offloads, "lost": lost})
        saver.save()

    check_output(Path(session.output_dir))
    client = RealtimeClient(
        session,
        progress,
        on_connected=lambda: announce_ready(session.server_address),
        observe=outputs.observe,
        record=outputs.record,
        warn=warn,
    )
    saver = RecordSaver(client.recorder, session)
    ended = "failed"
    try:
        with saver, outputs.written(client.recorder), interrupts.raised():
            client.play()
        ended = "complete"
    except KeyboardInterrupt:
        ended = "interrupted"
    finally:
        if client.recorder.frame_count:
            saver.finish(ended)
    print_json({"done": ended == "complete"})
    return 0 if ended == "complete" else 130


def warn(text: str) -> None:
    """Print a warning, for the process that started this one and for who reads its log."""
    print_json({"warning": text})
    print(f"warning: {text}", file=sys.stderr)


def print_json(report: dict[str, object]) -> None:
    """Print one JSON line on standard output."""
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    sys.exit(main())
