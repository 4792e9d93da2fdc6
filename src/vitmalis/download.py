"""Downloads that go on where they stopped; what has come is kept."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import requests
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

CHUNK_BYTES = 1 << 16  # what a break may cost
TIMEOUT_S = (10.0, 60.0)  # to connect, and between two pieces of data
BREAKS_IN_A_ROW = 5
"""A transfer that breaks so often without a byte of progress is given up."""
PAUSE_S = 1.0
"""Wait so long after the first break without progress, longer after the next."""


class DownloadError(Exception):
    """A file cannot be had; says why in a few words."""


class _BrokenOff(Exception):
    """A transfer ended before its end; what has come is kept."""


def download(url: str, part: Path, name: str) -> None:
    """Bring a file to `part`, going on from what is there already; progress goes to standard error.

    For files that never change under their name: the pieces bear no further mark of belonging together, so check the
    whole.

    Args:
        url: of the file.
        part: takes the data.
        name: shown while it lasts.

    Raises:
        DownloadError: no connection, an answer that is no such file, or no progress.
    """
    breaks = 0
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
            except _BrokenOff as error:
                grown = part.is_file() and part.stat().st_size > before
                breaks = 0 if grown else breaks + 1
                if breaks == BREAKS_IN_A_ROW:
                    raise DownloadError(_reason(error)) from error
                time.sleep(breaks * PAUSE_S)
            except OSError as error:  # requests' errors are such, too
                raise DownloadError(_reason(error)) from error


def _transfer(session: requests.Session, url: str, part: Path, start: int) -> Iterator[tuple[int, int | None]]:
    """One request for what is missing from byte `start` on; yields (bytes there, bytes in all) as they are written."""
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={start}-"} if start else {})}
    with session.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as answer:
        served = answer.headers.get("Content-Range", "")
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            if served == f"bytes */{start}":
                return  # nothing is missing
            part.unlink()
            raise _BrokenOff(f"{start} bytes were there already, which is no beginning of it")
        answer.raise_for_status()
        resumed = answer.status_code == requests.codes.partial_content
        if resumed and not served.startswith(f"bytes {start}-"):
            raise OSError(f"it sends '{served}' when asked for what follows byte {start}")
        done = start if resumed else 0  # a server that knows no ranges sends everything again
        length = answer.headers.get("Content-Length")
        total = done + int(length) if length is not None else None
        with part.open("ab" if resumed else "wb") as file:
            try:
                for chunk in answer.iter_content(CHUNK_BYTES):
                    file.write(chunk)
                    done += len(chunk)
                    yield done, total
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
                raise _BrokenOff(_reason(error)) from error
    if total is not None and done != total:
        raise _BrokenOff(f"it ended after {done} of {total} bytes")


def _reason(error: Exception) -> str:
    """What went wrong, in one line, without the wrappings of the libraries below."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"it answers {error.response.status_code} {error.response.reason}"
    inner: BaseException = error
    while inner.__context__ is not None:
        inner = inner.__context__
    return " ".join(str(inner).split())
