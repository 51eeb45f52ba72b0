"""Open a GGUF file and read its metadata, with errors that name the file and the key."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

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
        """Read a metadata key; `default` if the file does not have it."""
        field = self.reader.get_field(key)
        return default if field is None else field.contents()

    @property
    def architecture(self) -> str:
        """The model's architecture, in llama.cpp's words."""
        return self.require("general.architecture")

    def key(self, name: str) -> str:
        """Complete a key of the model's own: the architecture stands in front of its name."""
        return f"{self.architecture}.{name}"

    def release(self) -> None:
        """Drop the file's pages from this process's memory; they are read again when needed."""
        # The array is a view of numpy's memmap, and that of the map itself.
        self.reader.data.base.base.madvise(mmap.MADV_DONTNEED)

    def require(self, key: str) -> Any:
        """Read a metadata key; raise BadCheckpoint if the file does not have it."""
        value = self.get(key)
        if value is None:
            raise BadCheckpoint(f"{self.path}: metadata key {key} is missing")
        return value


def read_gguf(path: Path) -> GgufFile:
    """Open a whole model in GGUF.

    Raises:
        BadCheckpoint: Not GGUF, truncated, or one part of a model that was split into several.
    """
    try:
        reader = _reader_class()(path)
    # The library has no error of its own for a file that is cut short or is not GGUF.
    except (ValueError, IndexError, KeyError) as error:
        raise BadCheckpoint(f"{path}: not a readable GGUF file ({error})") from error
    file = GgufFile(path, reader)
    _refuse_parts(file)
    return file


@cache
def _reader_class() -> type:
    """The `gguf` library's reader with plain arrays: four times as fast on a large vocabulary.

    The library makes several views for each token and merge; on a memmap these are slow and take
    memory.
    """
    import gguf

    class PlainReader(gguf.GGUFReader):
        @property
        def data(self) -> np.ndarray:
            """The file's bytes as a plain array, which shares the memory of the map."""
            return self._bytes

        @data.setter
        def data(self, mapped: np.memmap) -> None:
            self._bytes = np.asarray(mapped)

    return PlainReader


def _refuse_parts(file: GgufFile) -> None:
    """Refuse a part of a split model; one without the head would be taken for a tied model."""
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
