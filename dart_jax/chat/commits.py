"""Commits by a separate thread: each writes all that arrived while the last one was written.

A commit waits for the disk, which on a busy machine may take as long as an answer. In the event
loop that wait would hold up every request in flight, and answers that have arrived could time out.
"""

import queue
import sqlite3
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

Statement = tuple[str, tuple[Any, ...]]
"""SQL and its parameters."""

_Job = tuple[Sequence[Statement], "Future[None]"]


class Committer:
    """Writer of statements to an SQLite file, in the order given.

    Args:
        path: The file, with its tables.
    """

    def __init__(self, path: Path) -> None:
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        # Opened here, where a fault reaches the caller; used by the thread alone.
        db = sqlite3.connect(path, timeout=60.0, check_same_thread=False)
        # In WAL mode, some builds of SQLite would not wait for the disk at a commit.
        db.execute("PRAGMA synchronous=FULL")
        self._thread = threading.Thread(target=_write, args=(self._jobs, db), daemon=True)
        self._thread.start()

    def commit(self, statements: Sequence[Statement]) -> "Future[None]":
        """Return a future that is done when all statements are on the disk; it is all or none."""
        done: Future[None] = Future()
        done.set_running_or_notify_cancel()  # no cancelled caller can take a commit back
        self._jobs.put((statements, done))
        return done

    def close(self) -> None:
        """Write all statements that were given, and end the thread."""
        self._jobs.put(None)
        self._thread.join()


def _write(jobs: "queue.SimpleQueue[_Job | None]", db: sqlite3.Connection) -> None:
    """Commit jobs in batches until a None arrives."""
    while (first := jobs.get()) is not None:
        batch = [first]
        ended = False
        # All that has arrived in the meantime shares one wait for the disk.
        while not ended and not jobs.empty():
            job = jobs.get()
            ended = job is None
            if job is not None:
                batch.append(job)

        problem = _commit(batch, db)
        for _, done in batch:
            if problem is None:
                done.set_result(None)
            else:
                done.set_exception(problem)

        # Only after the commit: what arrived before the end has callers that wait for it.
        if ended:
            break

    db.close()


def _commit(batch: list[_Job], db: sqlite3.Connection) -> Exception | None:
    try:
        with db:
            for statements, _ in batch:
                for sql, values in statements:
                    db.execute(sql, values)
    except Exception as error:  # whatever it is, the callers that wait must get it
        return error
    return None
