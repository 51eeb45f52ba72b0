"""What identifies a model on disk: the content of the files that can change its answers.

The parts of a Hugging Face folder are told apart, so that a message can say which one changed:

    config       config.json, and that of an adapter that transformers would put on
    weights      the safetensors files (those of the index, where there is one), else torch's
    tokenizer    the tokenizer's files and the chat template
    generation   generation_config.json, which names tokens that end an answer

A README, a licence or what a download left behind is no part. A GGUF file is one part, `file`.

To hash a file takes as long as to read it. The hashes of large files are kept in the user's cache
folder, `$XDG_CACHE_HOME/dart_jax/sha256/` (default `~/.cache`), an entry a file, which holds as
long as path, size, inode and times are what they were. Processes may share the folder: entries are
written whole, and one that cannot be read is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

from tqdm import tqdm

from dart_jax.model.safetensors_file import INDEX_FILE, weight_files
from dart_jax.processes import is_first
from dart_jax.records import digest

TOKENIZER_FILES = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
    "chat_template.*",
)
"""Patterns of what makes a tokenizer and its chat template, in a Hugging Face folder."""

# Smaller files are hashed as fast as their entry is read.
_LEAST_KEPT = 32 << 20
# From so many bytes on, hashing takes seconds and is shown.
_LEAST_SHOWN = 1 << 30
# A file that changed within this time may change again without another time stamp, where a file
# system counts in whole seconds: its hash is not kept yet.
_SETTLED_SECONDS = 2.0
_CHUNK = 4 << 20
_THREADS = 4

Stamp = list[int]


def checkpoint_identity(path: Path) -> dict[str, str]:
    """Hash of each part of a model: `{"weights": ..., "tokenizer": ..., ...}`, or `{"file": ...}`.

    Args:
        path: A Hugging Face folder, of a language model or a classifier; or a file.

    Raises:
        FileNotFoundError: There is neither.
        BadCheckpoint: The folder's safetensors index cannot be read.
    """
    if not path.is_dir():
        return {"file": hash_files([path])[path]}
    parts = _parts(path)
    hashes = hash_files([file for files in parts.values() for file in files])
    return {
        part: digest([[file.name, hashes[file]] for file in files])
        for part, files in parts.items()
        if files
    }


def differing_parts(recorded: dict[str, str], found: dict[str, str]) -> list[str]:
    """Names of the parts in which two identities differ."""
    names = recorded.keys() | found.keys()
    return sorted(name for name in names if recorded.get(name) != found.get(name))


def _parts(folder: Path) -> dict[str, list[Path]]:
    def matching(*patterns: str) -> list[Path]:
        return sorted({f for pattern in patterns for f in folder.glob(pattern) if f.is_file()})

    # transformers, which loads classifiers, takes model.safetensors, else what the index names,
    # else torch's files.
    usual = matching("model.safetensors", INDEX_FILE)
    weights = {*weight_files(folder), *usual, *matching("adapter_model*")}
    weights |= set() if usual else set(matching("pytorch_model*"))
    return {
        "config": matching("config.json", "adapter_config.json"),
        "weights": sorted(file for file in weights if file.is_file()),
        "tokenizer": matching(*TOKENIZER_FILES, "additional_chat_templates/*"),
        "generation": matching("generation_config.json"),
    }


def hash_files(files: Sequence[Path]) -> dict[Path, str]:
    """SHA-256 of each file, out of the cache where it is known; several are read at once.

    A bar shows the progress where there is much to read.
    """
    hashes = {file: known for file in files if (known := _kept_hash(file)) is not None}
    unknown = [file for file in files if file not in hashes]
    size = sum(file.stat().st_size for file in unknown)
    lock = Lock()
    with (
        tqdm(
            total=size,
            desc="identifying the model by its content",
            unit="B",
            unit_scale=True,
            disable=size < _LEAST_SHOWN or not is_first(),
        ) as bar,
        ThreadPoolExecutor(_THREADS) as threads,
    ):

        def advance(count: int) -> None:
            with lock:
                bar.update(count)

        found = threads.map(lambda file: _hash_and_keep(file, advance), unknown)
        return hashes | dict(zip(unknown, found, strict=True))


def _hash_and_keep(file: Path, advance: Callable[[int], None]) -> str:
    before = _stamp(file)
    hashed = hashlib.sha256()
    with open(file, "rb", buffering=0) as opened:
        while chunk := opened.read(_CHUNK):
            hashed.update(chunk)
            advance(len(chunk))
    if before == _stamp(file):  # else it was written to meanwhile
        _keep_hash(file, before, hashed.hexdigest())
    return hashed.hexdigest()


def _stamp(file: Path) -> Stamp:
    """What changes with a file's content: size, inode, and the times in nanoseconds.

    A tool that sets the time of the last change back (`rsync -t`) leaves its trace in the other.
    """
    stat = file.stat()
    return [stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns]


def _entry(file: Path) -> Path:
    """The file that keeps the hash of another one."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    folder = given if given.is_absolute() else Path.home() / ".cache"
    return folder / "dart_jax" / "sha256" / f"{digest(str(file.resolve()))[:32]}.json"


def _kept_hash(file: Path) -> str | None:
    stamp = _stamp(file)
    if stamp[0] < _LEAST_KEPT:
        return None
    try:
        entry = json.loads(_entry(file).read_text(encoding="utf-8"))
        same = entry["path"] == str(file.resolve()) and entry["stamp"] == stamp
        return str(entry["sha256"]) if same else None
    except (OSError, ValueError, KeyError, TypeError):  # none yet, or a damaged one
        return None


def _keep_hash(file: Path, stamp: Stamp, sha256: str) -> None:
    changed_ns = max(stamp[2:])
    if stamp[0] < _LEAST_KEPT or time.time_ns() - changed_ns < _SETTLED_SECONDS * 1e9:
        return
    entry = _entry(file)
    text = json.dumps({"path": str(file.resolve()), "stamp": stamp, "sha256": sha256})
    temporary = entry.with_name(f"{entry.name}.{secrets.token_hex(8)}.tmp")
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, entry)
    except OSError as error:
        print(
            f"warning: cannot keep the hash of {file} in {entry.parent} ({error}): it will be "
            "read again at the next start; XDG_CACHE_HOME names another folder",
            file=sys.stderr,
        )
