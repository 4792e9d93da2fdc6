"""Saving a session's records: while it plays, so that a client that dies loses a second, and as files at its end."""

from __future__ import annotations

import queue
import tempfile
import threading
import time
from pathlib import Path
from typing import Self

from vitmalis.client.record_journal import RecordJournal, RecordRows, finish_records, merged_rows
from vitmalis.client.recorder import Recorder
from vitmalis.client.session import ClientSession
from vitmalis.disk_space import LOW_FREE_BYTES, MIN_FREE_BYTES, check_space
from vitmalis.errors import UserError
from vitmalis.records import RecordsInfo

SAVE_S = 1.0
"""Time between two writes; what a client recorded since the last one is lost with it."""


def check_output(directory: Path) -> None:
    """Check, before the first frame, that records can be written.

    Raises:
        UserError: the folder cannot be made or written to, or its disk is as good as full.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            check_space("records folder", directory, MIN_FREE_BYTES)
    except OSError as error:
        raise UserError(f"records folder '{directory}' cannot be written to: {error.strerror}") from error


class RecordSaver:
    """Saves the rows of a recorder every second, in a thread of its own: a slow disk does not delay frames.

    Args:
        recorder: collects the rows.
        session: names the folder, and the run in the records.
    """

    def __init__(self, recorder: Recorder, session: ClientSession) -> None:
        self._recorder = recorder
        self._directory = Path(session.output_dir)
        self._session = session
        self._due_s = time.monotonic() + SAVE_S
        self._taken: queue.SimpleQueue[RecordRows | None] = queue.SimpleQueue()
        self._unsaved: list[RecordRows] = []
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="records", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._taken.put(None)
        self._thread.join()

    def save(self) -> None:
        """Save what has been recorded if the last time was a second ago; does not wait for the disk.

        Raises:
            UserError: the disk did not take the last rows, or is as good as full. Any other exception that ended saving
                is a bug, and is raised as it is.
        """
        if isinstance(self._error, OSError):
            raise UserError(self._problem(self._error)) from self._error
        if self._error is not None:
            raise self._error
        if time.monotonic() >= self._due_s:
            self._due_s = time.monotonic() + SAVE_S
            self._taken.put(self._recorder.take_changed())

    def finish(self, ended: str) -> None:
        """Write the record files to the session's folder, or to a temporary one if that fails; after the block.

        Args:
            ended: one of `vitmalis.records.ENDINGS`.

        Raises:
            UserError: the folder could not be written to; the message says where the records are.
        """
        info, last = self._info(ended), merged_rows([*self._unsaved, self._recorder.recent()])
        try:
            finish_records(self._directory, last, info)
            return
        except OSError as error:
            problem = self._problem(self._error if isinstance(self._error, OSError) else error)
        try:
            rescue = Path(tempfile.mkdtemp(prefix="vitmalis-records-"))
            finish_records(self._directory, last, info, into=rescue)
        except OSError as error:
            raise UserError(f"{problem} nor to a temporary folder; they are lost: free space and play again") from error
        raise UserError(f"{problem}: they are in '{rescue}'; move them there")

    def _work(self) -> None:
        """Write rows as they come; after an error they are kept for `finish`."""
        journal: RecordJournal | None = None
        while (rows := self._taken.get()) is not None:
            self._unsaved.append(rows)
            if self._error is None:
                try:
                    journal = journal or RecordJournal(self._directory, self._info("failed"))
                    journal.append(rows)
                    self._unsaved.clear()
                    check_space("records folder", self._directory, LOW_FREE_BYTES)
                except Exception as error:  # `save` raises it in the thread that plays
                    self._error = error
        if journal is not None:
            journal.close()

    def _info(self, ended: str) -> RecordsInfo:
        session = self._session
        return RecordsInfo(policy=session.policy, clip=session.video.name, trace=session.trace, ended=ended)

    def _problem(self, error: OSError) -> str:
        return f"records cannot be written to '{self._directory}' ({error.strerror or error})"
