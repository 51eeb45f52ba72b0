"""Read checkpoints of Hugging Face folders a slice at a time, and write them a shard at a time."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from dart_jax.model.weights import BadCheckpoint, TensorInfo, TensorSource
from dart_jax.strict_json import BadRecord, read_json

INDEX_FILE = "model.safetensors.index.json"
# Bytes per number of the types that are read. An integer or 8-bit type means a quantised
# checkpoint, whose scales are in other tensors.
_ITEM_SIZES = {"F32": 4, "F16": 2, "BF16": 2}


def safetensors_source(folder: Path) -> TensorSource:
    """Open the `*.safetensors` of a folder, and check them against the index if there is one.

    Only the headers are read here.

    Raises:
        BadCheckpoint: No files, a truncated file, a tensor in two files, one that is not of
            floating point, or an index that does not match the files.
        FileNotFoundError: The index names a file that is not there.
    """
    index_path = folder / INDEX_FILE
    index = _read_index(index_path) if index_path.exists() else None
    files = weight_files(folder)
    if not files:
        raise BadCheckpoint(f"{folder}: no *.safetensors in it")

    file_of: dict[str, Path] = {}
    tensors: dict[str, TensorInfo] = {}
    for file in files:
        if not file.exists():
            raise FileNotFoundError(f"{index_path} names {file.name}, which is not there")
        for name, info in _read_header(file).items():
            if name in file_of:
                raise BadCheckpoint(f"{name} is in both {file_of[name].name} and {file.name}")
            file_of[name], tensors[name] = file, info

    weight_map = {name: file.name for name, file in file_of.items()}
    if index is not None and index != weight_map:
        differing = sorted({name for name, _ in index.items() ^ weight_map.items()})[:5]
        raise BadCheckpoint(f"{index_path} and the files disagree on {', '.join(differing)}")

    def open_tensor(name: str) -> Any:
        # The file is mapped again for each tensor, so that the pages of a tensor do not stay in
        # this process's memory while the next ones are read. Each slice is copied out of the
        # mapping. A slice along `in` (fsdp) is a short run of every row, so that the disk may have
        # to read more than is copied. numpy knows bfloat16 through ml_dtypes.
        with safe_open(file_of[name], framework="numpy") as file:
            return file.get_slice(name)

    return TensorSource(str(folder), tensors, open_tensor)


def weight_files(folder: Path) -> list[Path]:
    """List the safetensors files to read: those that an index names, else all of the folder.

    Raises:
        BadCheckpoint: The index cannot be read.
    """
    index_path = folder / INDEX_FILE
    if not index_path.exists():
        return sorted(folder.glob("*.safetensors"))
    return sorted({folder / name for name in _read_index(index_path).values()})


def _read_index(path: Path) -> dict[str, str]:
    try:
        return read_json(path)["weight_map"]
    except BadRecord as error:
        raise BadCheckpoint(str(error)) from error
    except (KeyError, TypeError) as error:
        raise BadCheckpoint(f"{path}: no index with a weight_map ({error!r})") from error


def _read_header(file: Path) -> dict[str, TensorInfo]:
    """Read shape and size of every tensor, in the order in which the file stores them."""
    try:
        with safe_open(file, framework="numpy") as tensors:
            slices = {name: tensors.get_slice(name) for name in tensors.offset_keys()}
            headers = {name: (part.get_shape(), part.get_dtype()) for name, part in slices.items()}
    except SafetensorError as error:
        raise BadCheckpoint(f"{file}: not a readable safetensors file ({error})") from error

    for name, (_, dtype) in headers.items():
        if dtype not in _ITEM_SIZES:
            raise BadCheckpoint(
                f"{file}: {name} is stored as {dtype}; quantised checkpoints are not supported, "
                "take the float release and set model.quantize"
            )

    return {
        name: TensorInfo(tuple(shape), math.prod(shape) * _ITEM_SIZES[dtype])
        for name, (shape, dtype) in headers.items()
    }


def save_shards(
    folder: Path, tensors: Iterable[tuple[str, np.ndarray]], max_bytes: int
) -> tuple[int, int]:
    """Write named tensors as `model.safetensors`, or as numbered shards and their index.

    Tensors are collected until they fill a shard, so that no more than a shard is in memory. The
    files get the names that a reader looks for only when all of them are complete.

    Args:
        folder: Existing folder.
        max_bytes: Size of the largest shard; a tensor that is larger is a shard by itself.

    Returns:
        The number of shards, and the size of all tensors in bytes.

    Raises:
        ValueError: Two tensors have one name.
    """
    shards: list[list[str]] = []
    pending: dict[str, np.ndarray] = {}
    written: set[str] = set()
    pending_bytes = total_bytes = 0

    for name, tensor in tensors:
        if name in written:
            raise ValueError(f"{folder}: {name} is written twice")
        if pending and pending_bytes + tensor.nbytes > max_bytes:
            _save_shard(_partial(folder, len(shards)), pending)
            shards.append(list(pending))
            pending, pending_bytes = {}, 0
        # The library ignores strides and writes a tensor's memory as it is.
        pending[name] = np.ascontiguousarray(tensor)
        written.add(name)
        pending_bytes += tensor.nbytes
        total_bytes += tensor.nbytes

    _save_shard(_partial(folder, len(shards)), pending)
    shards.append(list(pending))

    count = len(shards)
    if count == 1:
        os.replace(_partial(folder, 0), folder / "model.safetensors")
        return count, total_bytes

    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards):
        file_name = f"model-{number + 1:05}-of-{count:05}.safetensors"
        os.replace(_partial(folder, number), folder / file_name)
        weight_map |= dict.fromkeys(names, file_name)
    index = {"metadata": {"total_size": total_bytes}, "weight_map": weight_map}
    (folder / INDEX_FILE).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return count, total_bytes


def _partial(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:05}.partial"


def _save_shard(path: Path, tensors: dict[str, np.ndarray]) -> None:
    # transformers refuses a file without the framework's name in its metadata.
    save_file(tensors, path, {"format": "pt"})
    # The library does not wait for the disk; `save_shards` is about to rename the file.
    with path.open("rb") as file:
        os.fsync(file.fileno())
