"""JSONL files that grow by appending, and are read again after a crash."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from dart_jax.cli import naming
from dart_jax.records import read_jsonl, to_json

T = TypeVar("T")


def append_jsonl(path: Path, records: Iterable[Any]) -> None:
    """Append records to a file and flush them to disk; `resume_jsonl` reads it after a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path), open(path, "a", encoding="utf-8", newline="\n") as out:
        out.write("".join(to_json(record) + "\n" for record in records))
        out.flush()
        os.fsync(out.fileno())


def resume_jsonl(path: Path, record_type: type[T]) -> list[T]:
    """Read a file that was being appended to; cut off a torn last line (one without newline)."""
    if not path.exists():
        return []
    data = path.read_bytes()
    # A record is whole once its newline is there, which is written last.
    whole = data[: data.rfind(b"\n") + 1]
    if whole != data:
        # Otherwise the next record would be appended to the torn one.
        with open(path, "r+b") as file:
            file.truncate(len(whole))
    return read_jsonl(path, record_type)
