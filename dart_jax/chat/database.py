"""Open the SQLite files of a run, and refuse damaged ones."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

WAIT_SECONDS = 60.0
"""Time to wait for a file that another process has locked."""


class BadStore(RuntimeError):
    """The file is not a store that this version can use; the message says what to do."""


def open_database(
    path: Path, what: str, prepare: Callable[[sqlite3.Connection], None]
) -> sqlite3.Connection:
    """Open a file in WAL mode, for several threads; make it, with its folders, when missing.

    The whole file is checked: otherwise a truncated or overwritten one would fail at some later
    row, in the middle of a stage.

    Args:
        what: Name of such a file, for messages.
        prepare: Makes the missing tables; may raise BadStore.

    Raises:
        BadStore: The file is no SQLite database, or a damaged one; or it cannot be opened because
            it is locked, read-only or on a full disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        db = sqlite3.connect(path, timeout=WAIT_SECONDS, check_same_thread=False)
    except sqlite3.OperationalError as error:
        raise _unusable(path, error) from error

    try:
        _check(db, path, what)
        prepare(db)
        # Last, since it writes to the file: one that is refused stays as it is.
        db.execute("PRAGMA journal_mode=WAL")
    # A lock or a full disk is no damage; its class is a DatabaseError, too, and comes first.
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
    """Make the error of a file that is not known to be damaged but cannot be used now."""
    return BadStore(
        f"{path} cannot be used ({fault}): wait for another process that has it, make room on the "
        "disk, or make it writable; nothing in it is lost"
    )


def damaged(path: Path, what: str, fault: object) -> BadStore:
    """Make the error of a file that cannot be read."""
    return BadStore(
        f"{path} is no {what}, or a damaged one ({fault}); move it away, and the same command "
        "makes a new one"
    )


def _check(db: sqlite3.Connection, path: Path, what: str) -> None:
    [(report,)] = db.execute("PRAGMA quick_check(1)").fetchall()
    if report != "ok":
        raise damaged(path, what, " ".join(report.split()))
