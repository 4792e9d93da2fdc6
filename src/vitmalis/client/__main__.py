"""`python -m vitmalis.client --session session.json`: play a session and write its records."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
from pathlib import Path

import cv2

from vitmalis.client.realtime import RealtimeClient
from vitmalis.client.session import ClientSession, read_session
from vitmalis.errors import UserError
from vitmalis.process import announce_ready, exit_on_stdin_eof
from vitmalis.records import (
    DECISIONS_FILE,
    FRAMES_FILE,
    OFFLOADS_FILE,
    RecordsInfo,
    write_decisions,
    write_frames,
    write_offloads,
)


def main() -> int:
    """Parse, play, write; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m vitmalis.client",
        description="Play a clip as a camera, offload its frames, render; write frames.parquet and offloads.parquet.",
        epilog="evaluate.py writes the session file and starts this; the records are the same either way.",
    )
    parser.add_argument(
        "--session", type=Path, required=True, help="JSON file of vitmalis.client.session.ClientSession"
    )
    parser.add_argument("--threads", type=int, default=1, help="OpenCV threads (default: %(default)s)")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s", stream=sys.stderr)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # both signals end the run in order, with its records
    exit_on_stdin_eof()
    cv2.setNumThreads(arguments.threads)
    try:
        return play(read_session(arguments.session))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def play(session: ClientSession) -> int:
    """Play a session; progress goes to standard output, one JSON object a line."""

    def progress(frames: int, offloads: int, lost: int) -> None:
        print(
            json.dumps({"progress": frames, "frames": session.video.frames, "offloads": offloads, "lost": lost}),
            flush=True,
        )

    client = RealtimeClient(session, progress, on_connected=lambda: announce_ready(session.server_address))
    try:
        client.play()
        interrupted = False
    except KeyboardInterrupt:
        interrupted = True
    info = RecordsInfo(policy=session.policy, clip=session.video.name, trace=session.trace, clock="realtime")
    output_dir = Path(session.output_dir)
    write_frames(output_dir / FRAMES_FILE, client.recorder.frames(), info)
    write_offloads(output_dir / OFFLOADS_FILE, client.recorder.offloads(), info)
    if decisions := client.recorder.decisions():
        write_decisions(output_dir / DECISIONS_FILE, decisions, info)
    print(json.dumps({"done": not interrupted}), flush=True)
    return 130 if interrupted else 0


if __name__ == "__main__":
    sys.exit(main())
