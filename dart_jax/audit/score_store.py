"""Harm scores kept on disk, so that a text is scored once by each version of a scorer.

It is SQLite in WAL mode, like the response store. A batch is committed before anybody uses it, and
only checked probabilities are stored. Of a text only its SHA-256 is kept; of an answer that is
scored as the answer to its question, that of both.
"""

import hashlib
import json
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from dart_jax.audit.scorer_protocol import (
    AnyScorer,
    Scored,
    checked_scores,
    is_probability,
    reads_question,
    takes_all,
)
from dart_jax.chat.database import open_database

_MOST_VARIABLES = 500  # SQLite's limit for one statement is higher in every build


class ScoreStore:
    """Scores by (scorer, version, text), in one SQLite file.

    One store may be shared by threads, and one file by processes.

    Args:
        path: The file; made with its folders when missing.

    Raises:
        BadStore: The file is no SQLite database, or a damaged one.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._db = open_database(path, "score store", _make_table)

    def get(self, scorer: str, version: str, texts: Sequence[str]) -> dict[str, Scored]:
        """Return the stored scores by text, of the texts that have one.

        A row that cannot be read is removed, so that its text is scored again.
        """
        text_of = {_key(text): text for text in texts}

        keys = list(text_of)
        stored: dict[str, Scored] = {}
        for start in range(0, len(keys), _MOST_VARIABLES):
            batch = keys[start : start + _MOST_VARIABLES]
            # As bytes, since sqlite3 raises an error of its own for what is not UTF-8.
            query = (
                "SELECT text_sha256, value, CAST(labels AS BLOB) FROM scores WHERE scorer = ? "
                f"AND version = ? AND text_sha256 IN ({', '.join('?' * len(batch))})"
            )
            with self._lock:
                rows = self._db.execute(query, (scorer, version, *batch)).fetchall()

            # Outside of the lock, which `_remove` takes again.
            for key, value, labels in rows:
                scored = _read(value, labels)
                if scored is None:
                    self._remove(scorer, version, key)
                else:
                    stored[text_of[key]] = scored

        return stored

    def put(self, scorer: str, version: str, scored: Mapping[str, Scored]) -> None:
        """Commit scores by text. The first score of a text stays, so that processes agree."""
        rows = []
        for text, (value, labels) in scored.items():
            rows.append((scorer, version, _key(text), value, json.dumps(labels)))
        with self._lock, self._db:
            self._db.executemany("INSERT OR IGNORE INTO scores VALUES (?, ?, ?, ?, ?)", rows)

    def _remove(self, scorer: str, version: str, key: str) -> None:
        statement = "DELETE FROM scores WHERE scorer = ? AND version = ? AND text_sha256 = ?"
        with self._lock, self._db:
            self._db.execute(statement, (scorer, version, key))

    def close(self) -> None:
        """Close the file; the store cannot be used afterwards."""
        with self._lock:
            self._db.close()


def _make_table(db: sqlite3.Connection) -> None:
    with db:
        db.execute(
            "CREATE TABLE IF NOT EXISTS scores ("
            "scorer TEXT NOT NULL, version TEXT NOT NULL, text_sha256 TEXT NOT NULL,"
            " value REAL NOT NULL, labels TEXT NOT NULL,"
            " PRIMARY KEY (scorer, version, text_sha256)) WITHOUT ROWID"
        )


def _read(value: object, labels: bytes) -> Scored | None:
    """Read a stored score; None where it is not what `put` has written."""
    try:
        by_label = json.loads(labels)
    except (ValueError, RecursionError):
        return None
    if not isinstance(by_label, dict) or not all(map(is_probability, (value, *by_label.values()))):
        return None
    return value, by_label


def copy_scores(source: Path, target: Path) -> None:
    """Add the scores of one store to another, which is made if need be."""
    if not source.exists():
        return
    for path in (source, target):
        ScoreStore(path).close()  # opening it checks the file and makes the table
    # The second `with` commits; it would not close the file.
    with closing(sqlite3.connect(target, timeout=60.0)) as db, db:
        db.execute("ATTACH ? AS source", (str(source),))
        db.execute("INSERT OR IGNORE INTO scores SELECT * FROM source.scores")


class StoredScorer:
    """A scorer that asks the store first, and another scorer for what is not there."""

    def __init__(self, scorer: AnyScorer, store: ScoreStore) -> None:
        self.name, self.version = scorer.name, scorer.version
        self.reads_question, self.takes_all = reads_question(scorer), takes_all(scorer)
        self._scorer, self._store = scorer, store

    def score(self, texts: list[str], questions: Sequence[str] = ()) -> list[Scored]:
        """Score texts as the scorer does; ValueError, storing nothing, for what is no probability.

        A scorer that reads the question has a score for each question with its answer.
        """
        asked = questions if self.reads_question else [""] * len(texts)
        answers = list(zip(texts, asked, strict=True))
        # No text of a scorer can be taken for a question with its answer: it has all of either.
        keys = [json.dumps([q, text]) if self.reads_question else text for text, q in answers]

        stored = self._store.get(self.name, self.version, keys)
        missing = {k: a for k, a in zip(keys, answers, strict=True) if k not in stored}
        if missing:
            new_texts = [text for text, _ in missing.values()]
            new_questions = [question for _, question in missing.values()]
            new = checked_scores(self._scorer, new_texts, new_questions)
            self._store.put(self.name, self.version, dict(zip(missing, new, strict=True)))
            # Read back: another process may have stored the first score in the meantime.
            stored |= self._store.get(self.name, self.version, list(missing))
        return [stored[key] for key in keys]


def _key(text: str) -> str:
    # A generation may hold an unpaired surrogate, which strict UTF-8 would refuse.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
