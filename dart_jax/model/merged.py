"""Merge a base model and an adapter into one Hugging Face folder.

    W[out, in] + scale * (A[in, R] B[R, out])^T

is written for every projection that the adapter has; all other tensors are copied. Tensors are read
and merged in float32 one by one and written a shard at a time, so that a model of any size needs
the memory of one shard and its largest tensor.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from dart_jax.model.architecture import LlamaConfig, to_hf_config
from dart_jax.model.config import MergedDtype
from dart_jax.model.finite import all_finite
from dart_jax.model.folder_tokenizer import GENERIC_CLASSES
from dart_jax.model.identity import TOKENIZER_FILES
from dart_jax.model.lora import LoraParams
from dart_jax.model.safetensors_file import save_shards
from dart_jax.model.tokenizer import load_tokenizer
from dart_jax.model.weights import LAYER_NAMES, BadCheckpoint, TensorSource

# Files of a base folder that are copied: the tokenizer's, the generation's stop tokens, and the
# licence, which many licences ask to be passed on.
_COPIED = (
    *TOKENIZER_FILES,
    "generation_config.json",
    "LICENSE*",
    "NOTICE*",
    "USE_POLICY*",
)


@dataclass(frozen=True)
class MergeReport:
    """Counts of a merged checkpoint, and the error of rounding it.

    Attributes:
        tensors, shards, bytes: Number of tensors and of files, and the tensors' size.
        dtypes: Storage types, such as `bfloat16`.
        rounding: How far storing moved the merged weights from their float32 values, as a share
            of how far the adapter moved them (Frobenius norms over all merged weights).
    """

    tensors: int
    shards: int
    bytes: int
    dtypes: tuple[str, ...]
    rounding: float


def write_merged(
    folder: Path,
    source: TensorSource,
    lora_params: LoraParams,
    scale: float,
    *,
    dtype: MergedDtype,
    max_shard_bytes: int,
) -> MergeReport:
    """Write every tensor of a checkpoint, with the adapter's update where it has one.

    Args:
        folder: Existing folder for the safetensors files and their index.
        lora_params: Arrays must be whole on this process.
        scale: alpha / rank.
        dtype: Storage type; `checkpoint` keeps each tensor's own type.
        max_shard_bytes: Size of the largest file.

    Raises:
        BadCheckpoint: A projection that the adapter changes is missing or of another shape, or a
            number of a tensor is not finite, or not finite in its storage type.
    """
    import ml_dtypes

    pairs = _pairs(lora_params)
    _check_shapes(source, pairs)
    types = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
    stored_types: set[str] = set()
    moved = rounded = 0.0

    def merged_tensors() -> Iterator[tuple[str, np.ndarray]]:
        nonlocal moved, rounded
        for name, info in tqdm(source.tensors.items(), "merging", unit="tensor"):
            tensor = source.open(name)[tuple(slice(size) for size in info.shape)]
            update = _update(*pairs[name], scale) if name in pairs else None
            exact = tensor if update is None else tensor.astype(np.float32) + update
            stored = _store_as(types.get(dtype, tensor.dtype), exact, f"{source.where}: {name}")
            if update is not None:
                moved += _squared(update)
                rounded += _squared(stored.astype(np.float32) - exact)
            stored_types.add(stored.dtype.name)
            yield name, stored

    shards, total_bytes = save_shards(folder, merged_tensors(), max_shard_bytes)
    return MergeReport(
        tensors=len(source.tensors),
        shards=shards,
        bytes=total_bytes,
        dtypes=tuple(sorted(stored_types)),
        rounding=(rounded / moved) ** 0.5 if moved else 0.0,
    )


def _store_as(dtype: np.dtype, exact: np.ndarray, what: str) -> np.ndarray:
    """Cast a tensor to its storage type.

    Raises:
        BadCheckpoint: A number is not finite in that type; names the tensor and a type that can
            hold it.
    """
    with np.errstate(over="ignore"):  # an overflow raises below, with the tensor's name
        stored = exact.astype(dtype, copy=False)
    if all_finite(stored):
        return stored

    if not all_finite(exact):
        raise BadCheckpoint(
            f"{what} has numbers that are not finite, in the checkpoint or once the adapter "
            "is added"
        )
    largest = float(np.abs(exact.astype(np.float32)).max())
    raise BadCheckpoint(
        f"{what} has numbers of up to {largest:.4g}, which {dtype.name} cannot hold; choose "
        "--dtype bfloat16 or --dtype float32"
    )


def _pairs(lora_params: LoraParams) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Pairs A [in, R] and B [R, out] by the name of the tensor that they change."""
    pairs = {}
    for target, weights in lora_params.items():
        layers = zip(np.asarray(weights["A"]), np.asarray(weights["B"]), strict=True)
        for layer, pair in enumerate(layers):
            pairs[f"model.layers.{layer}.{LAYER_NAMES[target]}"] = pair
    return pairs


def _check_shapes(source: TensorSource, pairs: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    for name, (a, b) in pairs.items():
        if name not in source.tensors:
            raise BadCheckpoint(f"{source.where}: missing {name}, which the adapter changes")
        shape, expected = source.tensors[name].shape, (b.shape[1], a.shape[0])
        if shape != expected:
            raise BadCheckpoint(
                f"{source.where}: {name} is {shape}, the adapter is for {expected} (out, in)"
            )


def _update(a: np.ndarray, b: np.ndarray, scale: float) -> np.ndarray:
    """Compute scale * A B [in, out], transposed to the checkpoint's [out, in]."""
    with np.errstate(over="ignore", invalid="ignore"):  # `_store_as` refuses what overflows
        return (np.float32(scale) * b).T @ a.T


def _squared(values: np.ndarray) -> float:
    return float(np.linalg.norm(values)) ** 2


def write_config(folder: Path, base: Path, config: LlamaConfig, dtype: MergedDtype) -> None:
    """Write `config.json`: the base folder's, or for a GGUF file one of the same architecture."""
    if base.is_dir():
        raw = json.loads((base / "config.json").read_text(encoding="utf-8"))
    else:
        # transformers 5 reads rope_parameters; its earlier releases and other programs read
        # rope_theta and rope_scaling.
        raw = to_hf_config(config)
        scaling = {k: v for k, v in raw["rope_parameters"].items() if k != "rope_theta"}
        raw |= {
            "rope_theta": config.rope_theta,
            "rope_scaling": None if config.rope_scaling is None else scaling,
            # The type of GGUF tensors once they are dequantised.
            "dtype": "float32",
        }

    if dtype != "checkpoint":
        # The older name of the same key, which would contradict it.
        raw.pop("torch_dtype", None)
        raw["dtype"] = dtype
    _write_json(folder / "config.json", raw)


def write_tokenizer(folder: Path, base: Path) -> None:
    """Write tokenizer, chat template and `generation_config.json`; call it after `write_config`.

    A base folder's files are copied, but for the tokenizer's class, see `_use_generic_class`. A
    GGUF file's tokenizer is converted, and its special tokens are written to both configurations.
    """
    if base.is_dir():
        for pattern in _COPIED:
            for file in sorted(base.glob(pattern)):
                if file.is_file():
                    shutil.copyfile(file, folder / file.name)
        _use_generic_class(folder)
        if not (folder / "generation_config.json").exists():
            _write_json(folder / "generation_config.json", load_tokenizer(base).special_ids())
        return

    tokenizer = load_tokenizer(base)
    tokenizer.save(folder)
    # Name the class as every release of transformers does.
    _change_json(folder / "tokenizer_config.json", tokenizer_class=GENERIC_CLASSES[0])
    _change_json(folder / "config.json", **tokenizer.special_ids())
    _write_json(folder / "generation_config.json", tokenizer.special_ids())


def _use_generic_class(folder: Path) -> None:
    """Replace a tokenizer class that would not read tokenizer.json as it is.

    `read_folder_tokenizer` says why the base's class is not to be used.
    """
    path = folder / "tokenizer_config.json"
    if not (folder / "tokenizer.json").is_file() or not path.is_file():
        return
    named = json.loads(path.read_text(encoding="utf-8")).get("tokenizer_class")
    if named not in (None, *GENERIC_CLASSES):
        _change_json(path, tokenizer_class=GENERIC_CLASSES[0])


def _change_json(path: Path, **values: Any) -> None:
    _write_json(path, json.loads(path.read_text(encoding="utf-8")) | values)


def _write_json(path: Path, raw: dict[str, Any]) -> None:
    path.write_text(json.dumps(raw, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
