"""A Llama-3 family decoder in Flax NNX; its layers are stacked and scanned.

Each weight's shape, logical axes and initialiser stand together in the modules below. The
functions at the end run the model on a plain pytree of weights, so that adapters and base stay
two arguments:

    base_params = {"embed": [V, D], "layers": {"q": [L, D, N*H], ...}, "final_norm": [D],
                   "head": [D, V] (absent when tied)}
"""

from __future__ import annotations

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float, Int, PyTree

from dart_jax.model.architecture import LlamaConfig
from dart_jax.model.attention import attend, attention_bias
from dart_jax.model.kv_cache import KVCache, LayerCache, write_slots
from dart_jax.model.lora import dropout, lora_delta
from dart_jax.model.rope import rope_frequencies, rope_tables, rotate

# Name of the projections' outputs, for the rematerialisation policy that keeps just these.
PROJECTION = "projection"


def _weight(rngs: nnx.Rngs, shape: tuple[int, ...], axes: tuple[str, ...]) -> nnx.Param:
    value = 0.02 * jax.random.normal(rngs.params(), shape)
    return nnx.Param(value, logical_axes=axes)


def _norm(dim: int) -> nnx.Param:
    return nnx.Param(jnp.ones((dim,)), logical_axes=("norm",))


def rms_norm(x: Float[Array, "B T D"], weight: Array, eps: float) -> Float[Array, "B T D"]:
    """x / rms(x) * weight, computed in float32 (Zhang and Sennrich 2019)."""
    wide = x.astype(jnp.float32)
    scale = jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + eps)
    return (wide * scale).astype(x.dtype) * weight.astype(x.dtype)[None, None, :]


_REMAT_POLICIES = {
    "projections": jax.checkpoint_policies.save_only_these_names(PROJECTION),
    "layer": jax.checkpoint_policies.nothing_saveable,
}


class Adapter:
    """One layer's adapter weights with what they need at run time (not a module: no state)."""

    def __init__(self, weights: PyTree, scale: Array | float, rate: float, key: Array | None):
        self.weights, self.scale, self.rate, self.key = weights, scale, rate, key

    def drop(self, x: Array, index: int) -> Array:
        """Dropout on the input that a group of projections shares."""
        key = None if self.key is None else jax.random.fold_in(self.key, index)
        return dropout(x, self.rate, key)

    def project(self, name: str, x: Array, dropped: Array, kernel: nnx.Param) -> Array:
        """x W, plus the adapter's share where the target has one."""
        out = x @ kernel[...]
        if name in self.weights:
            out = out + lora_delta(dropped, self.weights[name], self.scale)
        return checkpoint_name(out, PROJECTION)


class Block(nnx.Module):
    """One decoder layer: attention and SwiGLU feed-forward, each behind an RMSNorm."""

    def __init__(self, config: LlamaConfig, rngs: nnx.Rngs):
        self.config = config
        D, F = config.embed_dim, config.ffn_dim
        q_dim, kv_dim = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        self.attn_norm = _norm(D)
        self.q = _weight(rngs, (D, q_dim), ("embed", "heads"))
        self.k = _weight(rngs, (D, kv_dim), ("embed", "kv_heads"))
        self.v = _weight(rngs, (D, kv_dim), ("embed", "kv_heads"))
        self.o = _weight(rngs, (q_dim, D), ("heads", "embed"))
        self.ffn_norm = _norm(D)
        self.gate = _weight(rngs, (D, F), ("embed", "ffn"))
        self.up = _weight(rngs, (D, F), ("embed", "ffn"))
        self.down = _weight(rngs, (F, D), ("ffn", "embed"))

    def qkv(
        self, x: Float[Array, "B T D"], rope: tuple[Array, Array], adapter: Adapter
    ) -> tuple[Array, Array, Array]:
        """Rotated queries [B,T,N,H] and keys [B,T,K,H], and values [B,T,K,H]."""
        B, T, _ = x.shape
        normed = rms_norm(x, self.attn_norm[...], self.config.norm_eps)
        dropped = adapter.drop(normed, 0)
        q, k, v = (
            adapter.project(name, normed, dropped, kernel).reshape(B, T, -1, self.config.head_dim)
            for name, kernel in (("q", self.q), ("k", self.k), ("v", self.v))
        )
        return rotate(q, *rope), rotate(k, *rope), v

    def finish(
        self, x: Float[Array, "B T D"], attended: Float[Array, "B T N H"], adapter: Adapter
    ) -> Float[Array, "B T D"]:
        """Output projection and feed-forward, each added to the residual stream."""
        attended = attended.reshape(*x.shape[:2], -1)
        x = x + adapter.project("o", attended, adapter.drop(attended, 1), self.o)
        normed = rms_norm(x, self.ffn_norm[...], self.config.norm_eps)
        dropped = adapter.drop(normed, 2)
        gate = adapter.project("gate", normed, dropped, self.gate)
        up = adapter.project("up", normed, dropped, self.up)
        hidden = jax.nn.silu(gate) * up
        return x + adapter.project("down", hidden, adapter.drop(hidden, 3), self.down)


class Llama(nnx.Module):
    """Embedding, stacked blocks, final norm and (untied) head."""

    def __init__(self, config: LlamaConfig, rngs: nnx.Rngs):
        self.embed = _weight(rngs, (config.vocab_size, config.embed_dim), ("vocab", "embed"))
        stacked = nnx.vmap(lambda keys: Block(config, keys), in_axes=0, out_axes=0)
        self.layers = stacked(rngs.split(config.num_layers))
        self.final_norm = _norm(config.embed_dim)
        if not config.tied_head:
            self.head = _weight(rngs, (config.embed_dim, config.vocab_size), ("embed", "vocab"))


@cache
def _abstract(config: LlamaConfig) -> tuple[Any, Any, Any]:
    model = nnx.eval_shape(lambda: Llama(config, nnx.Rngs(0)))
    block_graph, _ = nnx.split(nnx.eval_shape(lambda: Block(config, nnx.Rngs(0))))
    state = nnx.state(model)
    axes = {
        path: (("layers",) if path[0] == "layers" else ()) + leaf.get_metadata()["logical_axes"]
        for path, leaf in nnx.to_flat_state(state)
    }
    return block_graph, nnx.to_pure_dict(state), axes


def param_shapes(config: LlamaConfig) -> PyTree:
    """`jax.ShapeDtypeStruct` of every base weight; the tree that `forward` expects."""
    return _abstract(config)[1]


def param_axes(config: LlamaConfig) -> PyTree:
    """Logical axes of every base weight, in the same tree."""
    tree: dict[str, Any] = {}
    for path, axes in _abstract(config)[2].items():
        node = tree
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = axes
    return tree


def init_params(key: Array, config: LlamaConfig, dtype: Any = jnp.float32) -> PyTree:
    """Random weights of the right shapes (tests, benchmarks)."""
    state = nnx.to_pure_dict(nnx.state(Llama(config, nnx.Rngs(params=key))))
    return jax.tree.map(lambda leaf: leaf.astype(dtype), state)


def forward(
    config: LlamaConfig,
    base_params: PyTree,
    lora_params: PyTree,
    tokens: Int[Array, "B T"],
    positions: Int[Array, "B T"],
    mask: Bool[Array, "B T S"],
    *,
    lora_scale: Array | float,
    dropout_rate: float = 0.0,
    dropout_key: Array | None = None,
    cache: KVCache | None = None,
    slot: Array | int = 0,
    remat: str = "none",
) -> tuple[Float[Array, "B T D"], KVCache | None]:
    """Hidden states after the final norm.

    Without a cache the T tokens attend among themselves (S = T). With one, their keys and
    values are written to its slots `slot .. slot + T - 1` first, and they attend to all S slots
    that `mask` allows.

    Args:
        base_params, lora_params: With a cache, their layers may be `unstack`ed. The adapters may
            be empty: the base model.
        lora_scale: alpha / rank; 0 gives exactly the base model.
        dropout_key: Given in training only.
        remat: What the backward pass keeps of each layer: `none` recomputes nothing,
            `projections` keeps the matrix products with weights, `layer` only the layer's input.

    Returns:
        Hidden states, and the updated cache when one was given.
    """
    block_graph = _abstract(config)[0]
    rope = rope_tables(positions, rope_frequencies(config))
    bias = attention_bias(mask)

    def layer(
        x: Array, weights: PyTree, lora: PyTree, index: Array | int, past: LayerCache | None
    ) -> tuple[Array, LayerCache | None]:
        block = nnx.merge(block_graph, nnx.State(weights))
        key = None if dropout_key is None else jax.random.fold_in(dropout_key, index)
        adapter = Adapter(lora, lora_scale, dropout_rate, key)
        q, k, v = block.qkv(x, rope, adapter)
        if past is None:
            keys, values = k.swapaxes(1, 2), v.swapaxes(1, 2)
        else:
            keys, values = past = write_slots(past, slot, k, v)
        return block.finish(x, attend(q, keys, values, bias), adapter), past

    x = base_params["embed"][tokens]
    if cache is None:
        x = _scan_layers(config, layer, x, base_params["layers"], lora_params, remat)
    else:
        # Unrolled: a scan would copy each layer's weights and cache at every decode step.
        updated = []
        for index, past in enumerate(cache):
            weights = _layer_of(base_params["layers"], index)
            x, past = layer(x, weights, _layer_of(lora_params, index), index, past)
            updated.append(past)
        cache = tuple(updated)
    return rms_norm(x, base_params["final_norm"], config.norm_eps), cache


def _scan_layers(
    config: LlamaConfig, layer: Any, x: Array, weights: PyTree, lora: PyTree, remat: str
) -> Array:
    def step(x: Array, scanned: PyTree) -> tuple[Array, None]:
        return layer(x, *scanned, None)[0], None

    if remat != "none":
        step = jax.checkpoint(step, prevent_cse=False, policy=_REMAT_POLICIES[remat])
    return jax.lax.scan(step, x, (weights, lora, jnp.arange(config.num_layers)))[0]


def _layer_of(layers: PyTree, index: int) -> PyTree:
    return layers[index] if isinstance(layers, tuple) else jax.tree.map(lambda w: w[index], layers)


def unstack(layers: PyTree) -> tuple[PyTree, ...]:
    """Stacked layers (or adapters) as one tree a layer, which `forward` takes with a cache.

    Decoding reads every weight once a token. On a CPU a slice of a stacked weight is copied
    before it is used, which doubles that; the price is a second copy of the layers.
    """
    leaves = jax.tree.leaves(layers)
    count = leaves[0].shape[0] if leaves else 0
    return tuple(_layer_of(layers, index) for index in range(count))


def head_kernel(base_params: PyTree) -> Float[Array, "D V"]:
    """The unembedding matrix: the head's, or the transposed embedding when they are tied."""
    return base_params["head"] if "head" in base_params else base_params["embed"].T


def logits_of(base_params: PyTree, hidden: Float[Array, "*n D"]) -> Float[Array, "*n V"]:
    """Float32 logits. Only for a few positions at a time: the result is V wide."""
    return jnp.matmul(hidden, head_kernel(base_params), preferred_element_type=jnp.float32)
