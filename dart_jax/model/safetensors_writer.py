"""Tensors out to safetensors files, one at a time: at no moment more than one is in memory.

A safetensors file is the length of its header, the header (JSON: type, shape and place of every
tensor) and the tensors' bytes. The header comes first but is known last, so that room is left
for it and padded with spaces, which the format allows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np

from dart_jax.model.safetensors_file import INDEX_FILE

_TAGS = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
# Of a header's entry beside the name: type, shape, two offsets and punctuation.
_ENTRY_BYTES = 160


class ShardWriter:
    """Writes `model.safetensors`, or numbered shards of it and their index; a context manager.

    Without `finish` the files keep names that no reader looks for.
    """

    def __init__(self, folder: Path, max_bytes: int, names: Iterable[str]):
        """Begin in a folder that exists.

        Args:
            max_bytes: Largest shard; a tensor that is larger gets a shard of its own.
            names: Of every tensor that will come; room for them is left in each header.
        """
        self._folder, self._max_bytes, self._awaited = folder, max_bytes, set(names)
        room = _ENTRY_BYTES + sum(len(json.dumps(name)) + _ENTRY_BYTES for name in self._awaited)
        self._header_bytes = -(-room // 8) * 8
        self._shards: list[Path] = []
        self._home: dict[str, int] = {}
        self._entries: dict[str, dict] = {}
        self._offset = self.total_bytes = 0
        self._file: IO[bytes] | None = None

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *_: Any) -> None:
        self._close()

    def add(self, name: str, tensor: np.ndarray) -> None:
        """Append a tensor. Raises ValueError for a name that does not come now, or its type."""
        if name not in self._awaited:
            raise ValueError(f"{name} was not announced, or is written twice")
        if tensor.dtype.name not in _TAGS:
            raise ValueError(f"{name} is {tensor.dtype}; only {', '.join(_TAGS)} can be written")
        # Readers map the file into memory, where a tensor must start at a multiple of its width.
        misplaced = self._offset % tensor.itemsize
        if misplaced or self._offset + tensor.nbytes > self._max_bytes or self._file is None:
            self._end_shard()
            self._begin_shard()
        self._file.write(np.ascontiguousarray(tensor).reshape(-1).view(np.uint8))
        end = self._offset + tensor.nbytes
        self._entries[name] = {
            "dtype": _TAGS[tensor.dtype.name],
            "shape": list(tensor.shape),
            "data_offsets": [self._offset, end],
        }
        self._awaited.remove(name)
        self._home[name] = len(self._shards) - 1
        self._offset = end
        self.total_bytes += tensor.nbytes

    def finish(self) -> int:
        """Complete the last shard, give all their final names; the number of shards.

        Raises:
            ValueError: A tensor never came.
        """
        if self._awaited:
            raise ValueError(f"{min(self._awaited)} and perhaps others were not written")
        self._end_shard()
        count = len(self._shards)
        if count == 1:
            os.replace(self._shards[0], self._folder / "model.safetensors")
            return count
        final = [f"model-{i + 1:05}-of-{count:05}.safetensors" for i in range(count)]
        for path, name in zip(self._shards, final, strict=True):
            os.replace(path, self._folder / name)
        index = {
            "metadata": {"total_size": self.total_bytes},
            "weight_map": {name: final[home] for name, home in self._home.items()},
        }
        text = json.dumps(index, indent=2) + "\n"
        (self._folder / INDEX_FILE).write_text(text, encoding="utf-8")
        return count

    def _begin_shard(self) -> None:
        path = self._folder / f"shard-{len(self._shards):05}.partial"
        self._file = path.open("wb")
        self._file.seek(8 + self._header_bytes)
        self._shards.append(path)
        self._entries, self._offset = {}, 0

    def _end_shard(self) -> None:
        if self._file is None:
            return
        # The framework's name, without which transformers refuses a file.
        header = json.dumps({"__metadata__": {"format": "pt"}, **self._entries}).encode("utf-8")
        self._file.seek(0)
        self._file.write(self._header_bytes.to_bytes(8, "little"))
        self._file.write(header.ljust(self._header_bytes))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._close()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
