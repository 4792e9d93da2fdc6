"""Standard streams that do not end a job: a reader that goes away, or a terminal that lacks a character."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from vitmalis_jobs.common.progress import AS_JSON

_READER_GONE = (errno.EPIPE, errno.EIO, errno.ESHUTDOWN)


class _LastingStream:
    """A text stream that drops what no one can read any more, as after `| head -2`; all else is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text, or drop it."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._drop(error)
            return len(text)

    def flush(self) -> None:
        """Flush the stream, or drop what it holds."""
        try:
            self._stream.flush()
        except OSError as error:
            self._drop(error)

    def _drop(self, error: OSError) -> None:
        """Send the stream's file descriptor to nowhere, also for later child processes and the interpreter's exit."""
        if error.errno not in _READER_GONE:
            raise error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


@contextmanager
def lasting_streams() -> Iterator[None]:
    """Let the job in this block run to its end whatever becomes of its output.

    Characters that a stream cannot encode are printed as `\\xdf`. A job whose progress a parent process reads
    (`AS_JSON`) ends with its parent, as before.
    """
    originals = sys.stdout, sys.stderr
    for stream in originals:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if not AS_JSON.items() <= os.environ.items():
        sys.stdout, sys.stderr = (_lasting(stream) for stream in originals)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, _LastingStream):
                stream.flush()
        sys.stdout, sys.stderr = originals


def _lasting(stream: Any) -> Any:
    return stream if stream is None or isinstance(stream, _LastingStream) else _LastingStream(stream)
