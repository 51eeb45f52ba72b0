"""Answers of paid or slow servers, kept on disk so that no request is sent twice.

SQLite in WAL mode: an answer is committed before anybody uses it, so a process killed at any
moment loses at most the requests in flight. A failure is stored in a separate table, with its
reason and never as an answer, so that the next run asks again. What was spent is counted in the
same transaction as the answer or the failure that it was spent on.
"""

import json
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from dart_jax.chat.commits import Committer, Statement
from dart_jax.chat.database import BadStore, damaged, open_database
from dart_jax.chat.usage import Usage
from dart_jax.records import digest

SCHEMA_VERSION = 1
"""Part of every key. Raise it when the request sent for a key changes in any other way."""

KIND = "response store"

FILE_VERSION = 2
"""Version of the tables, in `PRAGMA user_version`; 1 (0 in the file) had answers only."""

_TABLES = """
CREATE TABLE IF NOT EXISTS responses (
  key TEXT PRIMARY KEY, response TEXT NOT NULL, prompt_tokens INTEGER NOT NULL,
  completion_tokens INTEGER NOT NULL, stored_at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS failures (
  key TEXT PRIMARY KEY, reason TEXT NOT NULL, attempts INTEGER NOT NULL, failed_at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS usage (
  account TEXT PRIMARY KEY, requests INTEGER NOT NULL, answers INTEGER NOT NULL,
  failures INTEGER NOT NULL, stored INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL,
  completion_tokens INTEGER NOT NULL, cost_usd REAL);
"""
# As bytes, since sqlite3 raises an error of its own for what is not UTF-8.
_RESPONSE = "SELECT CAST(response AS BLOB) FROM responses WHERE key = ?"
_ADD_FAILURE = """
INSERT INTO failures VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET
  reason = excluded.reason, attempts = attempts + excluded.attempts, failed_at = excluded.failed_at
"""
# A sum with NULL is NULL: where one price was unknown, the whole cost is.
_ADD_USAGE = """
INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (account) DO UPDATE SET
  requests = requests + excluded.requests, answers = answers + excluded.answers,
  failures = failures + excluded.failures, stored = stored + excluded.stored,
  prompt_tokens = prompt_tokens + excluded.prompt_tokens,
  completion_tokens = completion_tokens + excluded.completion_tokens,
  cost_usd = cost_usd + excluded.cost_usd
"""
# SELECT: a key without an answer gets no failure.
_DISCARD_FAILURE = """
INSERT INTO failures SELECT key, ?, 1, ? FROM responses WHERE key = ?
  ON CONFLICT (key) DO UPDATE SET reason = excluded.reason, failed_at = excluded.failed_at
"""
# A failure stays in its table when a later start gets the answer.
_OPEN_FAILURES = "FROM failures WHERE key NOT IN (SELECT key FROM responses)"


def request_key(
    *,
    endpoint: str,
    model: str,
    messages: Sequence[dict[str, str]],
    parameters: dict[str, Any],
    json_schema: dict | None,
    schema_version: int = SCHEMA_VERSION,
) -> str:
    """Compute the SHA-256 (hex) of all that shapes an answer; the API key is no part of it."""
    return digest([endpoint, model, list(messages), parameters, json_schema, schema_version])


class ResponseStore:
    """Responses by request key, in one SQLite file.

    One store may be shared by threads, and one file by processes.

    Args:
        path: The file; made with its folders when missing. One of version 1 gets the new tables.

    Raises:
        BadStore: The file is no SQLite database, or was written by a newer version.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._db = open_database(path, KIND, lambda db: _prepare(db, path))
        self._committer = Committer(path)

    def get(self, key: str) -> dict[str, Any] | None:
        """Return the response stored under a key of `request_key`, or None.

        A response that is no JSON object is damaged and discarded, so that it is asked for again.
        """
        with self._lock:
            row = self._db.execute(_RESPONSE, (key,)).fetchone()
        if row is None:
            return None
        response = _read_object(row[0])
        if response is None:
            self.discard(key, "the stored answer: it is no JSON object").result()
        return response

    def put(
        self,
        key: str,
        response: dict[str, Any],
        *,
        prompt_tokens: int,
        completion_tokens: int,
        account: str = "",
        spent: Usage | None = None,
    ) -> "Future[None]":
        """Store one answer: the server's whole response, its tokens, and what was spent on it.

        The first answer to a key stays, so that two processes that asked at once agree.

        Returns:
            A future that is done when the answer is committed; nobody may use it before.
        """
        row = (key, json.dumps(response), prompt_tokens, completion_tokens, time.time())
        added = ("INSERT OR IGNORE INTO responses VALUES (?, ?, ?, ?, ?)", row)
        return self._committer.commit([added, *_add_usage(account, spent)])

    def fail(
        self, key: str, reason: str, attempts: int, *, account: str = "", spent: Usage | None = None
    ) -> "Future[None]":
        """Store a request that ended without an answer; attempts add up over runs.

        Args:
            reason: Why, free of secrets.
            attempts: Number of HTTP requests made for it.

        Returns:
            A future that is done when the failure is committed.
        """
        added = (_ADD_FAILURE, (key, reason, attempts, time.time()))
        return self._committer.commit([added, *_add_usage(account, spent)])

    def discard(self, key: str, reason: str) -> "Future[None]":
        """Turn a stored answer that cannot be used into a failure, so that it is asked for again.

        Args:
            reason: Why, in our own words; the answer itself is gone.

        Returns:
            A future that is done when the change is committed.
        """
        failed = (_DISCARD_FAILURE, (reason, time.time(), key))
        return self._committer.commit([failed, ("DELETE FROM responses WHERE key = ?", (key,))])

    def charge(self, account: str, spent: Usage) -> None:
        """Commit what was spent on neither an answer nor a failure."""
        self._committer.commit(_add_usage(account, spent)).result()

    def usage(self) -> dict[str, Usage]:
        """Return what was spent so far, by account."""
        with self._lock:
            rows = self._db.execute("SELECT * FROM usage ORDER BY account").fetchall()
        # The table's columns are in the order of the fields.
        return {account: Usage(*counts) for account, *counts in rows}

    def keys(self) -> set[str]:
        """Return the keys of all requests that have an answer."""
        with self._lock:
            return {key for (key,) in self._db.execute("SELECT key FROM responses")}

    def failures(self) -> dict[str, tuple[str, int]]:
        """Return the last reason and the attempts of each failed request without an answer."""
        with self._lock:
            rows = self._db.execute(f"SELECT key, reason, attempts {_OPEN_FAILURES}").fetchall()
        return {key: (reason, attempts) for key, reason, attempts in rows}

    def failure_counts(self) -> dict[str, int]:
        """Count requests without an answer so far, by the reason of their last failure."""
        counts = Counter(reason for reason, _ in self.failures().values())
        return dict(counts.most_common())

    def token_use(self) -> tuple[int, int]:
        """Sum the prompt and completion tokens of all stored answers."""
        query = "SELECT TOTAL(prompt_tokens), TOTAL(completion_tokens) FROM responses"
        with self._lock:
            prompt_tokens, completion_tokens = self._db.execute(query).fetchone()
        return int(prompt_tokens), int(completion_tokens)

    def close(self) -> None:
        """Write all pending commits, and close the file; the store cannot be used afterwards."""
        self._committer.close()
        with self._lock:
            self._db.close()

    def __enter__(self) -> "ResponseStore":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _read_object(stored: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(stored)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _add_usage(account: str, spent: Usage | None) -> list[Statement]:
    if spent is None:
        return []
    counts = (spent.requests, spent.answers, spent.failures, spent.stored)
    tokens = (spent.prompt_tokens, spent.completion_tokens, spent.cost_usd)
    return [(_ADD_USAGE, (account, *counts, *tokens))]


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > FILE_VERSION:
        raise BadStore(
            f"{path} was written by a newer version (format {version}, this one knows"
            f" {FILE_VERSION}); update dart_jax, or set another run.name"
        )
    if version < FILE_VERSION:
        # Each statement can be repeated, the version comes last: a crash in between is mended.
        db.executescript(f"{_TABLES} PRAGMA user_version = {FILE_VERSION};")


@contextmanager
def stored_answers(path: Path) -> Iterator[Callable[[str], dict[str, Any] | None]]:
    """Open a store to look answers up by key without changing the file, which may be missing.

    Raises:
        BadStore: The file is no response store, or a damaged one.
    """
    if not path.exists():
        yield lambda key: None
        return

    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:

        def get(key: str) -> dict[str, Any] | None:
            try:
                row = db.execute(_RESPONSE, (key,)).fetchone()
            except sqlite3.DatabaseError as error:
                raise damaged(path, KIND, error) from error
            return None if row is None else _read_object(row[0])

        yield get


def copy_answers(source: Path, target: Path) -> None:
    """Add the answers of one store to another, without what was spent on them.

    The target is made if need be.

    Raises:
        BadStore: See `ResponseStore`.
    """
    if not source.exists():
        return
    for path in (source, target):
        ResponseStore(path).close()  # brings the file to this version
    with closing(sqlite3.connect(target, timeout=60.0)) as db, db:
        db.execute("ATTACH ? AS source", (str(source),))
        db.execute("INSERT OR IGNORE INTO responses SELECT * FROM source.responses")
