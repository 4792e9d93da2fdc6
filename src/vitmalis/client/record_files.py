"""Writing a session's records safely: free space is checked first, and a full disk does not lose them."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from vitmalis.client.recorder import Recorder
from vitmalis.client.session import ClientSession
from vitmalis.errors import UserError
from vitmalis.records import RecordsInfo, write_run

MIN_FREE_BYTES = 32 * 2**20
"""Free space that a session needs to start; the records of half an hour take some 10 MB."""


def check_output(directory: Path) -> None:
    """Check, before the first frame, that records can be written.

    Raises:
        UserError: the folder cannot be made or written to, or its disk is as good as full.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            free_bytes = shutil.disk_usage(directory).free
    except OSError as error:
        raise UserError(f"records folder '{directory}' cannot be written to: {error.strerror}") from error
    if free_bytes < MIN_FREE_BYTES:
        raise UserError(
            f"records folder '{directory}': {free_bytes / 2**20:.0f} MiB are free on its disk, "
            f"{MIN_FREE_BYTES / 2**20:.0f} MiB are needed: free some, or choose another folder"
        )


def write_records(recorder: Recorder, session: ClientSession, ended: str) -> None:
    """Write the session's records to its folder, or to a temporary one if that fails.

    Args:
        recorder: holds the rows.
        session: names the folder, and the run in the records.
        ended: one of `vitmalis.records.ENDINGS`.

    Raises:
        UserError: the folder could not be written to; the message says where the records are.
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
        raise UserError(f"{problem} nor to a temporary folder; they are lost: free space and play again") from error
    raise UserError(f"{problem}: they are in '{rescue}'; move them there")


def _write(directory: Path, recorder: Recorder, session: ClientSession, ended: str) -> None:
    info = RecordsInfo(policy=session.policy, clip=session.video.name, trace=session.trace, ended=ended)
    write_run(directory, info, recorder.frames(), recorder.offloads(), recorder.decisions())
