"""The SQLite files of a run: opened in one way, and refused while they are damaged."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

WAIT_SECONDS = 60.0
"""How long a file that another process has locked is waited for."""


class BadStore(RuntimeError):
    """The file is no store that this version can use; the message says what to do."""


def open_database(
    path: Path, what: str, prepare: Callable[[sqlite3.Connection], None]
) -> sqlite3.Connection:
    """Open a file in WAL mode, for several threads; make it, with its folders, when missing.

    The whole file is checked: a truncated or overwritten one would else fail at some later row,
    in the middle of a stage.

    Args:
        what: Name of such a file, for messages.
        prepare: Makes the tables that are missing. May raise BadStore.

    Raises:
        BadStore: It is no SQLite database, or a damaged one; or it cannot be opened, because it is
            locked, read-only or on a full disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        db = sqlite3.connect(path, timeout=WAIT_SECONDS, check_same_thread=False)
    except sqlite3.OperationalError as error:
        raise _unusable(path, error) from error

    try:
        _check(db, path, what)
        prepare(db)
        db.execute("PRAGMA journal_mode=WAL")
    except sqlite3.OperationalError as error:
        db.close()
        raise _unusable(path, error) from error
    except sqlite3.DatabaseError as error:
        db.close()
        raise damaged(path, what, error) from error
    except BadStore:
        db.close()
        raise

    return db


def _unusable(path: Path, fault: sqlite3.OperationalError) -> BadStore:
    """The error of a file that is well, as far as is known, and cannot be used now."""
    return BadStore(
        f"{path} cannot be used ({fault}): wait for another process that has it, make room on the "
        "disk, or make it writable; nothing in it is lost"
    )


def damaged(path: Path, what: str, fault: object) -> BadStore:
    """The error of a file that cannot be read."""
    return BadStore(
        f"{path} is no {what}, or a damaged one ({fault}); move it away, and the same command "
        "makes a new one"
    )


def _check(db: sqlite3.Connection, path: Path, what: str) -> None:
    [(found,)] = db.execute("PRAGMA quick_check(1)").fetchall()
    if found != "ok":
        raise damaged(path, what, " ".join(found.split()))
