"""Identify a model on disk by hashing the files that can change its answers.

The parts of a Hugging Face folder are hashed separately, so that a message can say which changed:

    config       config.json, and that of an adapter that transformers would apply
    weights      the safetensors files (those of the index, where there is one), else torch's
    tokenizer    the tokenizer's files and the chat template
    generation   generation_config.json, which names tokens that end an answer

A README, a licence and remains of a download are ignored. A GGUF file is one part, `file`.

Hashing a file takes as long as reading it. So the hashes of large files are cached in the user's
folder `$XDG_CACHE_HOME/dart_jax/sha256/` (default `~/.cache`), an entry per file, which is valid as
long as path, size, inode and times stay the same. Processes may share the folder: entries are
written atomically, and one that cannot be read is made again.
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

from dart_jax.machine import user_cache
from dart_jax.model.safetensors_file import INDEX_FILE, weight_files
from dart_jax.processes import is_primary
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
"""File patterns of a tokenizer and its chat template in a Hugging Face folder."""

# Hashes of smaller files are not cached: hashing them is as fast as reading an entry.
_LEAST_KEPT = 32 << 20
# From so many bytes on, hashing takes seconds and a bar shows its progress.
_LEAST_SHOWN = 1 << 30
# The hash of a file that changed so recently is not cached: on a file system that counts in whole
# seconds, it may change again and keep its time stamp.
_SETTLED_SECONDS = 2.0
_CHUNK = 4 << 20
# Threads suffice: hashlib releases the interpreter's lock while it hashes.
_THREADS = 4

Stamp = list[int]


def checkpoint_identity(path: Path) -> dict[str, str]:
    """Hash each part of a model: `{"weights": ..., "tokenizer": ..., ...}`, or `{"file": ...}`.

    Args:
        path: A Hugging Face folder of a language model or a classifier; or a file.

    Raises:
        FileNotFoundError: There is no such folder or file.
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


def differing_parts(recorded: dict[str, str], current: dict[str, str]) -> list[str]:
    """Name the parts in which two identities differ."""
    names = recorded.keys() | current.keys()
    return sorted(name for name in names if recorded.get(name) != current.get(name))


def _parts(folder: Path) -> dict[str, list[Path]]:
    """Files of each part of a Hugging Face folder."""

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
    """Hash files by SHA-256, several at once; hashes in the cache are not computed again.

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
            disable=size < _LEAST_SHOWN or not is_primary(),
        ) as bar,
        ThreadPoolExecutor(_THREADS) as threads,
    ):

        def advance(count: int) -> None:
            with lock:
                bar.update(count)

        computed = threads.map(lambda file: _hash_and_keep(file, advance), unknown)
        return hashes | dict(zip(unknown, computed, strict=True))


def _hash_and_keep(file: Path, advance: Callable[[int], None]) -> str:
    """Hash a file and cache the hash; `advance` is called with the bytes of each chunk."""
    before = _stamp(file)
    sha256 = hashlib.sha256()
    with open(file, "rb", buffering=0) as opened:
        while chunk := opened.read(_CHUNK):
            sha256.update(chunk)
            advance(len(chunk))

    # A file that was written to meanwhile has a hash of neither version.
    if before == _stamp(file):
        _keep_hash(file, before, sha256.hexdigest())
    return sha256.hexdigest()


def _stamp(file: Path) -> Stamp:
    """Read what changes with a file's content: size, inode, and both times in nanoseconds.

    A tool that sets the modification time back (`rsync -t`) still changes the other one.
    """
    stat = file.stat()
    return [stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns]


def _entry(file: Path) -> Path:
    """Path of the cache entry that holds a file's hash."""
    return user_cache("sha256") / f"{digest(str(file.resolve()))[:32]}.json"


def _kept_hash(file: Path) -> str | None:
    """The cached hash of a file; None if there is none, or the file has changed since."""
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
    """Write a hash to the cache; warn if the folder cannot be written to."""
    changed_ns = max(stamp[2:])
    if stamp[0] < _LEAST_KEPT or time.time_ns() - changed_ns < _SETTLED_SECONDS * 1e9:
        return

    entry = _entry(file)
    text = json.dumps({"path": str(file.resolve()), "stamp": stamp, "sha256": sha256})
    # A name of this process's own: several may write the same entry at once.
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
