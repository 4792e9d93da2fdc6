"""A session's records on disk: room is asked for before anything plays, and what was played is kept in any case."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from vitmalis.client.recorder import Recorder
from vitmalis.client.session import ClientSession
from vitmalis.errors import UserError
from vitmalis.records import RecordsInfo, write_run

ROOM_BYTES = 32 * 2**20
"""Free space without which a session does not start; half an hour's records take some 10 MB."""


def check_output(directory: Path) -> None:
    """Find out before the first frame whether records can be written.

    Raises:
        UserError: the folder cannot be made or written to, or its disk is as good as full.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            free_bytes = shutil.disk_usage(directory).free
    except OSError as error:
        raise UserError(f"records folder '{directory}' cannot be written to: {error.strerror}") from error
    if free_bytes < ROOM_BYTES:
        raise UserError(
            f"records folder '{directory}': {free_bytes / 2**20:.0f} MiB are free on its disk, "
            f"{ROOM_BYTES / 2**20:.0f} MiB are needed: free some, or choose another folder"
        )


def keep_records(recorder: Recorder, session: ClientSession, ended: str) -> None:
    """Write the session's records; where its folder takes none any more, elsewhere and with an error.

    Args:
        recorder: what was played.
        session: where to write, and what the records say of their run.
        ended: one of `vitmalis.records.ENDINGS`.

    Raises:
        UserError: the folder took no records; says where they are.
    """
    directory = Path(session.output_dir)
    try:
        _write(directory, recorder, session, ended)
        return
    except OSError as error:
        problem = f"records cannot be written to '{directory}' ({error.strerror or error})"
    try:
        rescue = Path(tempfile.mkdtemp(prefix="vitmalis-records-"))
        _write(rescue, recorder, session, ended)
    except OSError as error:
        raise UserError(f"{problem} nor elsewhere: they are lost; free some space and play again") from error
    raise UserError(f"{problem}: they are in '{rescue}'; move them there")


def _write(directory: Path, recorder: Recorder, session: ClientSession, ended: str) -> None:
    info = RecordsInfo(policy=session.policy, clip=session.video.name, trace=session.trace, ended=ended)
    write_run(directory, info, recorder.frames(), recorder.offloads(), recorder.decisions())
