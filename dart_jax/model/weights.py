"""Base weights from a checkpoint into `forward`'s tree: every weight exactly once.

Whatever the format, a `TensorSource` serves tensors under their Hugging Face names in the
Hugging Face orientation ([out, in]); this module names them, stacks the layers and places them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree
from safetensors import SafetensorError, safe_open

from dart_jax.model.architecture import LlamaConfig
from dart_jax.model.llama import param_shapes

LAYER_NAMES = {
    "attn_norm": "input_layernorm.weight",
    "q": "self_attn.q_proj.weight",
    "k": "self_attn.k_proj.weight",
    "v": "self_attn.v_proj.weight",
    "o": "self_attn.o_proj.weight",
    "ffn_norm": "post_attention_layernorm.weight",
    "gate": "mlp.gate_proj.weight",
    "up": "mlp.up_proj.weight",
    "down": "mlp.down_proj.weight",
}
TOP_NAMES = {
    "embed": "model.embed_tokens.weight",
    "final_norm": "model.norm.weight",
    "head": "lm_head.weight",
}


class BadCheckpoint(ValueError):
    """A checkpoint whose tensors are not exactly the model's; the message names them."""


@dataclass(frozen=True)
class TensorSource:
    """Named tensors of one checkpoint, read one at a time.

    Attributes:
        where: The file or folder, for messages.
        names: Every tensor in it (Hugging Face names).
        read: Name to array, in the Hugging Face orientation.
    """

    where: str
    names: frozenset[str]
    read: Callable[[str], np.ndarray]


def safetensors_source(folder: Path) -> TensorSource:
    """All `*.safetensors` of a folder; a `model.safetensors.index.json` is checked against them.

    Raises:
        BadCheckpoint: No files, a tensor in two files, or an index that says otherwise.
        FileNotFoundError: The index names a file that is not there.
    """
    index_path = folder / "model.safetensors.index.json"
    if index_path.exists():
        index = json.loads(index_path.read_text(encoding="utf-8"))["weight_map"]
        files = sorted({folder / name for name in index.values()})
    else:
        index, files = None, sorted(folder.glob("*.safetensors"))
    if not files:
        raise BadCheckpoint(f"{folder}: no *.safetensors in it")
    homes: dict[str, Path] = {}
    for file in files:
        if not file.exists():
            raise FileNotFoundError(f"{index_path} names {file.name}, which is not there")
        for name in _tensor_names(file):
            if name in homes:
                raise BadCheckpoint(f"{name} is in both {homes[name].name} and {file.name}")
            homes[name] = file
    found = {name: file.name for name, file in homes.items()}
    if index is not None and index != found:
        differing = sorted({name for name, _ in index.items() ^ found.items()})[:5]
        raise BadCheckpoint(f"{index_path} and the files disagree on {', '.join(differing)}")

    def read(name: str) -> np.ndarray:
        # The flax framework is the one that knows bfloat16.
        with safe_open(homes[name], framework="flax") as file:
            return np.asarray(file.get_tensor(name))

    return TensorSource(str(folder), frozenset(homes), read)


def _tensor_names(file: Path) -> list[str]:
    try:
        with safe_open(file, framework="numpy") as tensors:
            return list(tensors.keys())
    except SafetensorError as error:
        raise BadCheckpoint(f"{file}: not a readable safetensors file ({error})") from error


def load_params(
    config: LlamaConfig, source: TensorSource, dtype: Any, shardings: PyTree | None = None
) -> PyTree:
    """Assemble the base weights.

    Args:
        dtype: Storage type of the matrices; norms stay float32.
        shardings: A sharding per leaf; None places everything on the default device.

    Raises:
        BadCheckpoint: Missing, unknown or misshaped tensors, by name.
    """
    _check_names(config, source)
    shapes = param_shapes(config)
    num_layers = config.num_layers

    def leaf(path: Any, shape: jax.ShapeDtypeStruct) -> np.ndarray:
        keys = [key.key for key in path]
        if keys[0] != "layers":
            return _matrix(source, TOP_NAMES[keys[0]], shape.shape, keys[0] == "head")
        parts = np.empty(shape.shape, np.float32)
        for layer in range(num_layers):
            name = f"model.layers.{layer}.{LAYER_NAMES[keys[1]]}"
            parts[layer] = _matrix(source, name, shape.shape[1:], len(shape.shape) == 3)
        return parts

    def place(path: Any, shape: jax.ShapeDtypeStruct, sharding: Any) -> jax.Array:
        is_norm = path[-1].key.endswith("norm")
        return jax.device_put(leaf(path, shape).astype(np.float32 if is_norm else dtype), sharding)

    if shardings is None:
        shardings = jax.tree.map(lambda _: jax.devices()[0], shapes)
    return jax.tree_util.tree_map_with_path(place, shapes, shardings)


def _matrix(source: TensorSource, name: str, shape: tuple[int, ...], transpose: bool) -> np.ndarray:
    tensor = source.read(name)
    tensor = tensor.T if transpose else tensor
    if tensor.shape != shape:
        raise BadCheckpoint(
            f"{source.where}: {name} is {tensor.shape} (in, out), config.json asks for {shape}"
        )
    return tensor


def hf_names(config: LlamaConfig) -> set[str]:
    """The tensor names that a checkpoint of this architecture must have."""
    names = {
        f"model.layers.{layer}.{suffix}"
        for layer in range(config.num_layers)
        for suffix in LAYER_NAMES.values()
    }
    top = {key: name for key, name in TOP_NAMES.items() if key != "head" or not config.tied_head}
    return names | set(top.values())


def _check_names(config: LlamaConfig, source: TensorSource) -> None:
    expected = hf_names(config)
    missing = sorted(expected - source.names)
    # Old checkpoints carry the rotary buffer, which the configuration already determines.
    unknown = sorted(n for n in source.names - expected if not n.endswith("rotary_emb.inv_freq"))
    if config.tied_head and TOP_NAMES["head"] in unknown:
        unknown.remove(TOP_NAMES["head"])
        if not np.array_equal(source.read(TOP_NAMES["head"]), source.read(TOP_NAMES["embed"])):
            raise BadCheckpoint(
                f"{source.where}: tie_word_embeddings is true, but lm_head.weight differs "
                "from the embedding; set it to false in config.json"
            )
    problems = [
        f"{kind} {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}"
        for kind, names in (("missing", missing), ("unknown", unknown))
        if names
    ]
    if problems:
        raise BadCheckpoint(f"{source.where}: {'; '.join(problems)}")
