"""Load base weights from a checkpoint into `forward`'s tree, every weight exactly once.

Whatever the format, a `TensorSource` serves tensors under their Hugging Face names in the
Hugging Face orientation ([out, in]). This module checks all names and shapes, then places one
tensor after the other on the devices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import PyTree
from tqdm import tqdm

from dart_jax.model.architecture import LlamaConfig
from dart_jax.model.config import MeshConfig
from dart_jax.model.finite import all_finite
from dart_jax.model.llama import is_vector, param_axes, param_shapes
from dart_jax.model.placing import Leaf, Transform, arrive
from dart_jax.model.sharding import make_mesh, tree_shardings
from dart_jax.processes import is_primary

# Of all families: a layer has those that its configuration asks for.
LAYER_NAMES = {
    "attn_norm": "input_layernorm.weight",
    "q": "self_attn.q_proj.weight",
    "k": "self_attn.k_proj.weight",
    "v": "self_attn.v_proj.weight",
    "q_bias": "self_attn.q_proj.bias",
    "k_bias": "self_attn.k_proj.bias",
    "v_bias": "self_attn.v_proj.bias",
    "q_norm": "self_attn.q_norm.weight",
    "k_norm": "self_attn.k_norm.weight",
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
# A checkpoint of fewer bytes is loaded before a progress bar would tell anything.
_SHOWN_FROM = 10**9
# So many bytes, in float32, of a stored head are compared with the embedding at a time.
_COMPARED_AT_ONCE = 64 * 2**20


class BadCheckpoint(ValueError):
    """A checkpoint whose tensors are not exactly the model's; the message names them."""


@dataclass(frozen=True)
class TensorInfo:
    """Header of a tensor, known before it is read: shape [out, in], and bytes in the file."""

    shape: tuple[int, ...]
    stored_bytes: int


@dataclass(frozen=True)
class TensorSource:
    """Named tensors of one checkpoint, read one at a time.

    Attributes:
        where: The file or folder, for messages.
        tensors: Every tensor in it (Hugging Face names and orientation), in the order in which
            reading them is fastest.
        open: Opens a tensor by name: an object that, indexed with a slice within bounds for every
            axis, returns that part as an array which is not changed afterwards. Deleting the
            object frees its resources.
    """

    where: str
    tensors: dict[str, TensorInfo]
    open: Callable[[str], Any]


class _OnlyFinite:
    """An opened tensor that raises for a part with an infinity or a NaN in it."""

    def __init__(self, tensor: Any, what: str):
        self._tensor, self._what = tensor, what

    def __getitem__(self, index: Any) -> np.ndarray:
        part = self._tensor[index]
        if not all_finite(part):
            raise BadCheckpoint(
                f"{self._what} has numbers that are not finite; the checkpoint is damaged, or "
                "overflowed when it was converted: take it from its source again"
            )
        return part


def load_params(
    config: LlamaConfig,
    source: TensorSource,
    dtype: Any,
    shardings: PyTree | None = None,
    transform: Transform | None = None,
) -> PyTree:
    """Read the base weights tensor by tensor straight to their devices.

    A process reads its own devices' slices and holds one of them at a time; every process of the
    mesh has to call this. Names and shapes are checked before anything is read.

    Args:
        dtype: Storage type of the matrices; norms and biases stay float32.
        shardings: A `NamedSharding` per leaf; None places everything on one device of this process.
        transform: Applied on the devices to every weight before it is stacked; see
            `placing.Transform`.

    Raises:
        BadCheckpoint: Missing, unknown or misshaped tensors, by name, one with numbers that are
            not finite, or a stored head that differs from the embedding it should be tied to.
    """
    _check(config, source)
    leaves, homes = _leaves(config, dtype, shardings, transform), _homes(config)
    # `_check` lets a rotary buffer and a copy of a tied head pass; they have no leaf.
    wanted = {name: info for name, info in source.tensors.items() if name in homes}
    loaded: dict[str, PyTree] = {}

    with _progress(sum(info.stored_bytes for info in wanted.values())) as bar:
        for name, info in wanted.items():
            key, layer = homes[name]
            so_far = loaded.get(key)
            # The opened tensor gets no name, so that it is freed before the next one is opened.
            loaded[key] = arrive(
                _OnlyFinite(source.open(name), f"{source.where}: {name}"),
                info.shape,
                leaves[key],
                layer,
                so_far,
            )
            bar.update(info.stored_bytes)

    tree = param_shapes(config)
    return jax.tree_util.tree_map_with_path(lambda path, _: loaded[path[-1].key], tree)


def _leaves(
    config: LlamaConfig, dtype: Any, shardings: PyTree | None, transform: Transform | None
) -> dict[str, Leaf]:
    """Describe how each leaf of `forward`'s tree is made, by the leaf's key."""
    shapes = param_shapes(config)
    if shardings is None:
        single_device = make_mesh(MeshConfig(), jax.local_devices()[:1])
        shardings = tree_shardings(single_device, param_axes(config), shapes)

    def leaf(path: Any, shape: jax.ShapeDtypeStruct, sharding: NamedSharding) -> Leaf:
        key, stacked = path[-1].key, path[0].key == "layers"
        # `stacked` is 0 or 1: the weight of one layer lacks the axis of the layers.
        spec = (*sharding.spec, *[None] * (len(shape.shape) - len(sharding.spec)))[stacked:]
        return Leaf(
            name=None if transform is None else key,
            num_layers=config.num_layers if stacked else None,
            transpose=_is_transposed(key),
            dtype=jnp.dtype(jnp.float32 if is_vector(key) else dtype),
            sharding=NamedSharding(sharding.mesh, PartitionSpec(*spec)),
            transform=transform,
        )

    leaves = jax.tree_util.tree_map_with_path(leaf, shapes, shardings)
    return leaves.pop("layers") | leaves


def _is_transposed(key: str) -> bool:
    """Tell whether the file stores this leaf's weights transposed, as [out, in]."""
    return key != "embed" and not is_vector(key)


def _progress(total_bytes: int) -> tqdm:
    hidden = total_bytes < _SHOWN_FROM or not is_primary()
    return tqdm(
        desc="weights",
        total=total_bytes,
        unit="B",
        unit_scale=True,
        unit_divisor=1024,
        disable=hidden,
    )


def tensor_shapes(config: LlamaConfig) -> dict[str, tuple[int, ...]]:
    """Shape of each tensor that a checkpoint of this architecture must have, as in the file."""
    of_leaf = {
        path[-1].key: leaf.shape[1:] if path[0].key == "layers" else leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(param_shapes(config))
    }
    return {
        name: of_leaf[key][::-1] if _is_transposed(key) else of_leaf[key]
        for name, (key, _) in _homes(config).items()
    }


def _homes(config: LlamaConfig) -> dict[str, tuple[str, int | None]]:
    """Map each tensor's name to its leaf and layer (None for a weight that is not stacked)."""
    of_a_layer = param_shapes(config)["layers"]
    homes: dict[str, tuple[str, int | None]] = {
        f"model.layers.{layer}.{suffix}": (key, layer)
        for layer in range(config.num_layers)
        for key, suffix in LAYER_NAMES.items()
        if key in of_a_layer
    }
    top = {name: (key, None) for key, name in TOP_NAMES.items()}
    if config.tied_head:
        del top[TOP_NAMES["head"]]
    return homes | top


def _check(config: LlamaConfig, source: TensorSource) -> None:
    """Check names and shapes by the headers, then a stored head that should be tied."""
    expected = tensor_shapes(config)
    missing = sorted(expected.keys() - source.tensors.keys())
    # Old checkpoints carry the rotary buffer, which the configuration already determines.
    beyond = source.tensors.keys() - expected.keys()
    unknown = sorted(name for name in beyond if not name.endswith("rotary_emb.inv_freq"))
    has_copied_head = config.tied_head and TOP_NAMES["head"] in unknown
    if has_copied_head:
        unknown.remove(TOP_NAMES["head"])

    problems = [
        f"{kind} {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}"
        for kind, names in (("missing", missing), ("unknown", unknown))
        if names
    ]
    if problems:
        raise BadCheckpoint(f"{source.where}: {'; '.join(problems)}")

    for name, shape in expected.items():
        stored_shape = source.tensors[name].shape
        if stored_shape != shape:
            raise BadCheckpoint(
                f"{source.where}: {name} is {stored_shape}, the configuration asks for {shape}"
            )
    if has_copied_head:
        _check_copied_head(source)


def _check_copied_head(source: TensorSource) -> None:
    """Raise unless a stored head beside a tied embedding is a copy of it.

    The two are compared a block of rows at a time, since they may not fit into memory.
    """
    head_name, embed_name = TOP_NAMES["head"], TOP_NAMES["embed"]
    rows, columns = source.tensors[embed_name].shape
    step = max(1, _COMPARED_AT_ONCE // (4 * columns))
    blocks = [slice(start, min(start + step, rows)) for start in range(0, rows, step)]

    head, embed = source.open(head_name), source.open(embed_name)
    # Compared first: slices must be within bounds, and the head may be the smaller of the two.
    same_shape = source.tensors[head_name].shape == (rows, columns)
    if not same_shape or not all(
        np.array_equal(head[block, :], embed[block, :]) for block in blocks
    ):
        raise BadCheckpoint(
            f"{source.where}: tie_word_embeddings is true, but lm_head.weight differs "
            "from the embedding; set it to false in config.json"
        )
