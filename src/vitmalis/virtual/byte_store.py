"""A bounded store of bytes by key in one SQLite database, which many processes may use at the same time.

Its file may come from another machine, so it holds bytes and nothing else: no names of files and no pickles.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from vitmalis.locks import file_lock
from vitmalis.paths import make_folder, share_with_group

_SCHEMA = (
    "CREATE TABLE entries (key TEXT PRIMARY KEY, value BLOB NOT NULL, used_ns INTEGER NOT NULL)",
    "CREATE INDEX entries_by_use ON entries (used_ns)",
)
_DROPPED_AT_ONCE = 10
_BUSY_S = 60.0


class ByteStore:
    """Bytes by key, of which those used least recently are dropped.

    Args:
        path: the database; created if absent, with its folder.
        max_bytes: size of the database above which entries are dropped.

    Raises:
        OSError, sqlite3.Error, ValueError: the database cannot be opened, or is not of this form.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        make_folder(path.parent)
        self._max_bytes = max_bytes
        with file_lock(path.with_suffix(".lock")):
            # SQLite deletes files that a rollback journal names. This database, in WAL mode, has no such journal.
            Path(f"{path}-journal").unlink(missing_ok=True)
            self._database = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
            try:
                self._prepare()
            except BaseException:
                self._database.close()
                raise
        share_with_group(path)

    def get(self, key: str) -> bytes | None:
        """The bytes of a key; None if it is not stored, or as something else.

        Raises:
            sqlite3.Error: the database cannot be used.
        """
        row = self._database.execute("SELECT value FROM entries WHERE key = ?", (key,)).fetchone()
        if row is None or not isinstance(row[0], bytes):
            return None
        self._database.execute("UPDATE entries SET used_ns = ? WHERE key = ?", (time.time_ns(), key))
        return row[0]

    def put(self, key: str, value: bytes) -> None:
        """Store bytes, in place of others of that key.

        Raises:
            sqlite3.Error: the database cannot be used, or its disk is full.
        """
        if self._size_bytes() > self._max_bytes:
            oldest = "SELECT key FROM entries ORDER BY used_ns LIMIT ?"
            self._database.execute(f"DELETE FROM entries WHERE key IN ({oldest})", (_DROPPED_AT_ONCE,))
        self._database.execute("REPLACE INTO entries VALUES (?, ?, ?)", (key, value, time.time_ns()))

    def close(self) -> None:
        """Close the connection to the database."""
        self._database.close()

    def _prepare(self) -> None:
        """Create the table in an empty database; refuse a database with anything else in it."""
        settings = ("auto_vacuum = FULL", "journal_mode = WAL", "synchronous = NORMAL", "cell_size_check = ON")
        for setting in settings:
            self._database.execute(f"PRAGMA {setting}").fetchall()
        if not self._schema():
            self._database.execute("BEGIN")
            for statement in _SCHEMA:
                self._database.execute(statement)
            self._database.execute("COMMIT")
        if self._schema() != {*_SCHEMA}:
            raise sqlite3.DatabaseError("it is a database of another kind or version")

    def _schema(self) -> set[str]:
        """The statements by which all tables, indices, views and triggers were made, but for automatic indices."""
        return {str(sql) for (sql,) in self._database.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")}

    def _size_bytes(self) -> int:
        pages, free, size = (
            self._database.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)
