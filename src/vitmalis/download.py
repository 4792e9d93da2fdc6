"""Resumable downloads."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import requests
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

CHUNK_BYTES = 1 << 16  # most that an interruption may cost
TIMEOUT_S = (10.0, 60.0)  # to connect, and between two pieces of data
MAX_FAILURES = 5
"""Number of interruptions in a row, without a byte of progress, after which a download fails."""
PAUSE_S = 1.0
"""Pause after the first interruption without progress; it grows by as much with each further one."""


class DownloadError(Exception):
    """A file cannot be downloaded; the message says why in a few words."""


class _Interrupted(Exception):
    """A transfer was interrupted; the data received so far are kept."""


def download(url: str, part: Path, name: str) -> None:
    """Download a file to `part`, resuming from the data that it holds already; progress goes to standard error.

    Only for files that never change at their address, as nothing else shows that the pieces belong together; check the
    checksum of the whole.

    Args:
        url: address of the file.
        part: path that the data are written to.
        name: shown with the progress.

    Raises:
        DownloadError: there is no connection, no such file, or no progress.
    """
    failures = 0
    title = TextColumn("{task.description}", markup=False)
    columns = (title, BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars, requests.Session() as session:
        bar = bars.add_task(name, total=None, visible=False)
        while True:
            before = part.stat().st_size if part.is_file() else 0
            try:
                for done_bytes, total_bytes in _transfer(session, url, part, before):
                    bars.update(bar, completed=done_bytes, total=total_bytes, visible=True)
                return
            except _Interrupted as error:
                grown = part.is_file() and part.stat().st_size > before
                failures = 0 if grown else failures + 1
                if failures == MAX_FAILURES:
                    raise DownloadError(_reason(error)) from error
                time.sleep(failures * PAUSE_S)
            except OSError as error:  # includes the errors of requests
                raise DownloadError(_reason(error)) from error


def _transfer(session: requests.Session, url: str, part: Path, start: int) -> Iterator[tuple[int, int | None]]:
    """Request the data from byte `start` on; yield (bytes present, total bytes) as they are written."""
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={start}-"} if start else {})}
    with session.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as answer:
        served = answer.headers.get("Content-Range", "")
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            if served == f"bytes */{start}":
                return  # nothing is missing
            part.unlink()
            raise _Interrupted(f"the {start} bytes present are not the beginning of the file")
        answer.raise_for_status()
        resumed = answer.status_code == requests.codes.partial_content
        if resumed and not served.startswith(f"bytes {start}-"):
            raise OSError(f"it sends '{served}' when asked for the data from byte {start} on")
        done = start if resumed else 0  # a server without support for ranges sends everything again
        length = answer.headers.get("Content-Length")
        total = done + int(length) if length is not None else None
        with part.open("ab" if resumed else "wb") as file:
            try:
                for chunk in answer.iter_content(CHUNK_BYTES):
                    file.write(chunk)
                    done += len(chunk)
                    yield done, total
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
                raise _Interrupted(_reason(error)) from error
    if total is not None and done != total:
        raise _Interrupted(f"it ended after {done} of {total} bytes")


def _reason(error: Exception) -> str:
    """Reason of an error in one line, taken from the innermost exception."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"it answers {error.response.status_code} {error.response.reason}"
    inner: BaseException = error
    while inner.__context__ is not None:
        inner = inner.__context__
    return " ".join(str(inner).split())
