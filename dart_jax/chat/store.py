"""Answers of paid or slow servers, kept on disk so that no request is sent twice.

SQLite in WAL mode: an answer is committed before anybody uses it, so a process killed at any
moment loses at most the requests in flight. Only answers are kept. A failure never enters the
store, hence is asked again by the next run.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dart_jax.records import digest

SCHEMA_VERSION = 1
"""Part of every key. Raise it when the request sent for a key changes in any other way."""


def request_key(
    *,
    endpoint: str,
    model: str,
    messages: Sequence[dict[str, str]],
    parameters: dict[str, Any],
    json_schema: dict | None,
    schema_version: int = SCHEMA_VERSION,
) -> str:
    """SHA-256 (hex) of everything that shapes an answer; the API key is no part of it."""
    return digest([endpoint, model, list(messages), parameters, json_schema, schema_version])


class ResponseStore:
    """Responses by request key, in one SQLite file.

    One store may be shared by threads, and one file by processes.

    Args:
        path: The file; made with its folders when missing.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, timeout=60.0, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        with self._db:
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS responses ("
                "key TEXT PRIMARY KEY, response TEXT NOT NULL, prompt_tokens INTEGER NOT NULL,"
                " completion_tokens INTEGER NOT NULL, stored_at REAL NOT NULL)"
            )

    def get(self, key: str) -> dict[str, Any] | None:
        """The response stored under a key of `request_key`, or None."""
        with self._lock:
            row = self._db.execute(
                "SELECT response FROM responses WHERE key = ?", (key,)
            ).fetchone()
        return None if row is None else json.loads(row[0])

    def put(
        self, key: str, response: dict[str, Any], *, prompt_tokens: int, completion_tokens: int
    ) -> None:
        """Commit one answer: the server's whole response and its token use.

        The first answer to a key stays, so that two processes that asked at once agree.
        """
        row = (key, json.dumps(response), prompt_tokens, completion_tokens, time.time())
        with self._lock, self._db:
            self._db.execute("INSERT OR IGNORE INTO responses VALUES (?, ?, ?, ?, ?)", row)

    def token_use(self) -> tuple[int, int]:
        """Prompt and completion tokens of all stored answers."""
        query = "SELECT TOTAL(prompt_tokens), TOTAL(completion_tokens) FROM responses"
        with self._lock:
            prompt_tokens, completion_tokens = self._db.execute(query).fetchone()
        return int(prompt_tokens), int(completion_tokens)

    def close(self) -> None:
        """Close the file; the store cannot be used afterwards."""
        with self._lock:
            self._db.close()
