"""What a full disk or an unreachable store raises, as one line with its first cause."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from requests import RequestException

from vitmalis.errors import UserError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DISK = _FULL | {errno.EROFS, errno.EIO}


@contextmanager
def storage_errors() -> Iterator[None]:
    """Raise `UserError` in place of an error that goes back to a disk or store that does not take what is written."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        cause = _first_cause(error)
        if cause is None:
            raise
        raise UserError(_line(cause)) from error


@contextmanager
def noted_on(first: BaseException | None, what: str) -> Iterator[None]:
    """Note an error in the block on the one that is being handled, so that the first cause is what is raised.

    Args:
        first: the error that is being handled; None raises the one in the block.
        what: what the block does, as the beginning of the note.
    """
    try:
        yield
    except Exception as error:
        if first is None:
            raise
        first.add_note(f"{what}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")


def _first_cause(error: BaseException) -> Exception | None:
    """The earliest error of a chain that a disk or a connection is to blame for; MLflow wraps it several times."""
    found, each = None, error if _is_wrapper(error) or _is_cause(error) else None
    seen: set[int] = set()
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        if isinstance(each, Exception) and _is_cause(each):
            found = each
        each = each.__cause__ or each.__context__
    return found


def _is_cause(error: BaseException) -> bool:
    if isinstance(error, RequestException):
        return True
    if isinstance(error, OSError):
        return error.errno in _DISK
    return isinstance(error, sqlite3.OperationalError)


def _is_wrapper(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] in ("mlflow", "sqlalchemy")


def _line(cause: Exception) -> str:
    if isinstance(cause, RequestException):
        return f"results cannot be stored: {' '.join(str(cause).split())[:300]}: is the MLflow server running?"
    if isinstance(cause, OSError):
        place = f"'{cause.filename}': " if cause.filename else ""
        remedy = "free some space there" if cause.errno in _FULL else "use another disk"
        return f"results cannot be stored: {place}{cause.strerror}: {remedy}, then start this again"
    return f"results cannot be stored: SQLite: {cause}: is its disk full? Free some space, then start this again"
