"""Read the stop tokens that a checkpoint's files name, beside those that its template writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dart_jax.model.gguf_metadata import GgufFile

_GGUF_KEYS = tuple(f"tokenizer.ggml.{name}_token_id" for name in ("eos", "eot", "eom"))


def folder_stop_ids(folder: Path) -> tuple[int, ...]:
    """Read `eos_token_id` of `generation_config.json`, or else of `config.json`.

    Llama 3.1 names three: the end of a text, of a message to a tool, and of a turn.

    Raises:
        ValueError: It is neither a token id nor a list of them; the message names the file.
    """
    for name in ("generation_config.json", "config.json"):
        path = folder / name
        if not path.is_file():
            continue
        try:
            given = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}: not JSON ({error})") from error
        if given is not None:
            return _token_ids(given, f"{path}: eos_token_id")
    return ()


def gguf_stop_ids(file: GgufFile) -> tuple[int, ...]:
    """Read the tokens for end of text, of turn and of message that a GGUF file's metadata name."""
    given = [file.get(key) for key in _GGUF_KEYS]
    named = [int(id) for id in given if id is not None]
    return _token_ids(named, f"{file.path}: {', '.join(_GGUF_KEYS)}")


def _token_ids(given: Any, what: str) -> tuple[int, ...]:
    ids = given if isinstance(given, list) else [given]
    # Not isinstance: true and false are ints to it.
    if not all(type(id) is int and id >= 0 for id in ids):
        raise ValueError(f"{what}: {given!r} is neither a token id nor a list of them")
    return tuple(sorted(set(ids)))
