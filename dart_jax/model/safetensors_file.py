"""Checkpoints of Hugging Face folders: headers first, then one tensor's slices at a time."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from dart_jax.model.weights import BadCheckpoint, TensorInfo, TensorSource
from dart_jax.strict_json import BadRecord, read_json

INDEX_FILE = "model.safetensors.index.json"
# Bytes a number. An integer or 8-bit type is a quantised checkpoint, whose scales are elsewhere.
_ITEM_SIZES = {"F32": 4, "F16": 2, "BF16": 2}


def safetensors_source(folder: Path) -> TensorSource:
    """All `*.safetensors` of a folder; a `model.safetensors.index.json` is checked against them.

    Only the headers are read here.

    Raises:
        BadCheckpoint: No files, a truncated file, a tensor in two files, one that is not of
            floating point, or an index that says otherwise.
        FileNotFoundError: The index names a file that is not there.
    """
    index_path = folder / INDEX_FILE
    index = _read_index(index_path) if index_path.exists() else None
    files = weight_files(folder)
    if not files:
        raise BadCheckpoint(f"{folder}: no *.safetensors in it")
    homes: dict[str, Path] = {}
    tensors: dict[str, TensorInfo] = {}
    for file in files:
        if not file.exists():
            raise FileNotFoundError(f"{index_path} names {file.name}, which is not there")
        for name, info in _read_header(file).items():
            if name in homes:
                raise BadCheckpoint(f"{name} is in both {homes[name].name} and {file.name}")
            homes[name], tensors[name] = file, info
    found = {name: file.name for name, file in homes.items()}
    if index is not None and index != found:
        differing = sorted({name for name, _ in index.items() ^ found.items()})[:5]
        raise BadCheckpoint(f"{index_path} and the files disagree on {', '.join(differing)}")

    def open_tensor(name: str) -> Any:
        # The file is mapped anew for each tensor and unmapped with it, so that the pages of a
        # tensor do not stay in this process's memory while the next ones are read. Each slice is
        # copied out of the mapping; one along `in` (fsdp) is short runs of every row, so that the
        # disk may have to read more than is copied. numpy knows bfloat16 through ml_dtypes.
        with safe_open(homes[name], framework="numpy") as file:
            return file.get_slice(name)

    return TensorSource(str(folder), tensors, open_tensor)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that are read: those that an index names, else all of the folder.

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
    """Shape and size of every tensor, in the order of their bytes: the order to read them in."""
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
