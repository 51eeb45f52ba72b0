"""Opening a GGUF file and reading its metadata, with errors that name the file and the key."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dart_jax.model.weights import BadCheckpoint


@dataclass(frozen=True)
class GgufFile:
    """An opened GGUF file.

    Attributes:
        reader: The `gguf` library's reader, which maps the file into memory.
    """

    path: Path
    reader: Any

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a metadata key, or `default` where the file does not have the key."""
        field = self.reader.get_field(key)
        return default if field is None else field.contents()

    def require(self, key: str) -> Any:
        """The value of a metadata key. Raises BadCheckpoint where the file does not have it."""
        value = self.get(key)
        if value is None:
            raise BadCheckpoint(f"{self.path}: metadata key {key} is missing")
        return value


def read_gguf(path: Path) -> GgufFile:
    """Open a whole model in GGUF.

    Raises:
        BadCheckpoint: Not GGUF, truncated, or one part of a model that was split into several.
    """
    import gguf

    try:
        reader = gguf.GGUFReader(path)
    except (ValueError, IndexError, KeyError) as error:
        raise BadCheckpoint(f"{path}: not a readable GGUF file ({error})") from error
    file = GgufFile(path, reader)
    _refuse_parts(file)
    return file


def _refuse_parts(file: GgufFile) -> None:
    """Refuse a part of a split model: one that lacks the head would pass for a tied model."""
    parts = int(file.get("split.count", 0))
    if parts > 1:
        raise BadCheckpoint(
            f"{file.path}: split.count is {parts}, so that this is one part of a model in {parts} "
            "files; merge them with llama.cpp's `llama-gguf-split --merge FIRST_PART WHOLE.gguf`"
        )

    stated, present = file.get("split.tensors.count"), len(file.reader.tensors)
    if stated is not None and int(stated) != present:
        raise BadCheckpoint(
            f"{file.path}: split.tensors.count is {stated}, but the file has {present} tensors; "
            "it is incomplete, download or merge it again"
        )
