"""A decoder of the Llama skeleton in Flax NNX, whose layers are stacked and scanned.

Each weight's shape, logical axes and initialiser stand together in the modules below. The
functions at the end run the model on plain pytrees of weights, so that base and adapters are two
separate arguments:

    base_params = {"embed": [V, D], "layers": {"q": [L, D, N*H], ...}, "final_norm": [D],
                   "head": [D, V] (absent when tied)}

What a family adds (`LlamaConfig.qkv_bias`, `qk_norm`) has weights and operations where its
configuration asks for it, and none elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache as memoised
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, PyTree

from dart_jax.model.architecture import LlamaConfig
from dart_jax.model.attention import Attention
from dart_jax.model.cudnn_attention import FORWARD_KERNEL
from dart_jax.model.dense import frozen_matmul
from dart_jax.model.kv_cache import CachedAttention
from dart_jax.model.lora import KEPT, adapter_deltas, dropout, lora_axes
from dart_jax.model.packed_attention import ATTENDED
from dart_jax.model.rope import rope_frequencies, rope_tables, rotate
from dart_jax.model.sharding import constrain, gather_weights, gathers

# Checkpoint name of the projections' outputs, which the policy `projections` keeps.
PROJECTION = "projection"


def _weight(rngs: nnx.Rngs, shape: tuple[int, ...], axes: tuple[str, ...]) -> nnx.Param:
    value = 0.02 * jax.random.normal(rngs.params(), shape)
    return nnx.Param(value, logical_axes=axes)


def _norm(dim: int) -> nnx.Param:
    return nnx.Param(jnp.ones((dim,)), logical_axes=("norm",))


def _bias(dim: int, axis: str) -> nnx.Param:
    return nnx.Param(jnp.zeros((dim,)), logical_axes=(axis,))


def is_vector(key: str) -> bool:
    """Tell norms and biases by their key in the tree: they stay float32, and are no matrices."""
    return key.endswith(("norm", "bias"))


def rms_norm(x: Float[Array, "*n D"], weight: Array, eps: float) -> Float[Array, "*n D"]:
    """x / rms(x) * weight over the last axis, in float32 (Zhang and Sennrich 2019)."""
    wide = x.astype(jnp.float32)
    scale = jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + eps)
    # The weight is applied after the cast, as in transformers.
    return (wide * scale).astype(x.dtype) * _along_last(weight, x)


def _along_last(vector: Array, x: Array) -> Array:
    """Shape and cast a vector of numbers for the features of x."""
    return jnp.expand_dims(vector.astype(x.dtype), tuple(range(x.ndim - 1)))


def _all_but_layouts(primitive: Any, *_: Any, **__: Any) -> bool:
    return primitive.name != "sharding_constraint"


# Dropout's noise, too: it is a bit per feature, and drawing it costs more than a product.
_named = jax.checkpoint_policies.save_only_these_names(PROJECTION, KEPT, ATTENDED)


def _products(primitive: Any, *args: Any, **parameters: Any) -> bool:
    return primitive.name == FORWARD_KERNEL or _named(primitive, *args, **parameters)


_REMAT_POLICIES = {
    # Keep everything but gathered weights, which would add up to the whole model on each device.
    "none": _all_but_layouts,
    "projections": _products,
    "layer": jax.checkpoint_policies.nothing_saveable,
}


class Adapter:
    """One layer's adapter weights with scale, dropout rate and key (no module: it has no state)."""

    def __init__(
        self, weights: PyTree, scale: Array | float, rate: float, key: Array | None, dtype: Any
    ):
        self.weights, self.scale, self.rate, self.key = weights, scale, rate, key
        self.dtype = dtype

    def project(self, x: Array, index: int, **kernels: nnx.Param) -> tuple[Array, ...]:
        """Compute x W for each kernel, plus the adapter's delta where the kernel has one.

        All kernels share x and its dropout, whose noise is the `index`-th of the layer.
        """
        key = None if self.key is None else jax.random.fold_in(self.key, index)
        adapters = {name: self.weights[name] for name in kernels if name in self.weights}
        deltas = adapter_deltas(dropout(x, self.rate, key), adapters, self.scale, self.dtype)

        outputs = []
        for name, kernel in kernels.items():
            out = frozen_matmul(x, kernel[...], self.dtype) + deltas.get(name, 0.0)
            outputs.append(checkpoint_name(out, PROJECTION))
        return tuple(outputs)


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
        if config.qkv_bias:
            self.q_bias = _bias(q_dim, "heads")
            self.k_bias, self.v_bias = _bias(kv_dim, "kv_heads"), _bias(kv_dim, "kv_heads")
        if config.qk_norm:
            self.q_norm, self.k_norm = _norm(config.head_dim), _norm(config.head_dim)
        self.ffn_norm = _norm(D)
        self.gate = _weight(rngs, (D, F), ("embed", "ffn"))
        self.up = _weight(rngs, (D, F), ("embed", "ffn"))
        self.down = _weight(rngs, (F, D), ("ffn", "embed"))

    def qkv(
        self, x: Float[Array, "B T D"], rope: tuple[Array, Array], adapter: Adapter
    ) -> tuple[Array, Array, Array]:
        """Project to rotated queries [B,T,N,H] and keys [B,T,K,H], and values [B,T,K,H]."""
        B, T, _ = x.shape
        config, eps = self.config, self.config.norm_eps
        normed = rms_norm(x, self.attn_norm[...], eps)
        q, k, v = adapter.project(normed, 0, q=self.q, k=self.k, v=self.v)
        if config.qkv_bias:
            q = q + _along_last(self.q_bias[...], q)
            k = k + _along_last(self.k_bias[...], k)
            v = v + _along_last(self.v_bias[...], v)

        heads = (B, T, -1, config.head_dim)
        q, k, v = q.reshape(heads), k.reshape(heads), v.reshape(heads)
        if config.qk_norm:
            q, k = rms_norm(q, self.q_norm[...], eps), rms_norm(k, self.k_norm[...], eps)
        return rotate(q, *rope), rotate(k, *rope), v

    def finish(
        self, x: Float[Array, "B T D"], attended: Float[Array, "B T N H"], adapter: Adapter
    ) -> Float[Array, "B T D"]:
        """Add the output projection, then the feed-forward, to the residual stream."""
        attended = attended.reshape(*x.shape[:2], -1)
        x = x + adapter.project(attended, 1, o=self.o)[0]
        normed = rms_norm(x, self.ffn_norm[...], self.config.norm_eps)
        gate, up = adapter.project(normed, 2, gate=self.gate, up=self.up)
        return x + adapter.project(jax.nn.silu(gate) * up, 3, down=self.down)[0]


class Llama(nnx.Module):
    """Embedding, stacked blocks, final norm and (untied) head."""

    def __init__(self, config: LlamaConfig, rngs: nnx.Rngs):
        self.embed = _weight(rngs, (config.vocab_size, config.embed_dim), ("lookup", "features"))
        stacked = nnx.vmap(lambda keys: Block(config, keys), in_axes=0, out_axes=0)
        self.layers = stacked(rngs.split(config.num_layers))
        self.final_norm = _norm(config.embed_dim)
        if not config.tied_head:
            self.head = _weight(rngs, (config.embed_dim, config.vocab_size), ("residual", "vocab"))


@memoised
def _abstract(config: LlamaConfig) -> tuple[Any, Any, Any]:
    """Graph of a block, shapes of all weights, and logical axes of all weights by path."""
    model = nnx.eval_shape(lambda: Llama(config, nnx.Rngs(0)))
    block_graph, _ = nnx.split(nnx.eval_shape(lambda: Block(config, nnx.Rngs(0))))
    state = nnx.state(model)
    axes = {
        path: (("layers",) if path[0] == "layers" else ()) + leaf.get_metadata()["logical_axes"]
        for path, leaf in nnx.to_flat_state(state)
    }
    return block_graph, nnx.to_pure_dict(state), axes


def param_shapes(config: LlamaConfig) -> PyTree:
    """Shape and type of every base weight, in the tree that `forward` expects."""
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


def _of_a_layer(axes: PyTree) -> PyTree:
    """Logical axes of one layer's weights, from those of the stack."""
    return jax.tree.map(lambda names: names[1:], axes, is_leaf=lambda n: isinstance(n, tuple))


def init_params(key: Array, config: LlamaConfig, dtype: Any = jnp.float32) -> PyTree:
    """Draw random weights of the architecture's shapes (for tests and benchmarks)."""
    state = nnx.to_pure_dict(nnx.state(Llama(config, nnx.Rngs(params=key))))
    return jax.tree.map(lambda leaf: leaf.astype(dtype), state)


def forward(
    config: LlamaConfig,
    base_params: PyTree,
    lora_params: PyTree,
    tokens: Int[Array, "B T"],
    positions: Int[Array, "B T"],
    attention: Attention | CachedAttention,
    *,
    lora_scale: Array | float,
    dropout_rate: float = 0.0,
    dropout_key: Array | None = None,
    cache: Sequence[Any] | None = None,
    remat: str = "none",
    activations: Any = None,
    mesh: Mesh | None = None,
) -> tuple[Float[Array, "B T D"], tuple[Any, ...] | None]:
    """Compute the hidden states after the final norm.

    Without a cache the T tokens attend to each other. With a cache, `attention` also gets each
    layer's element of it, and returns the element's new value.

    Args:
        attention: Attention function of the rows: `dense_attention(mask)`, `packed_attention(..)`;
            with a cache, a `CachedAttention`.
        base_params, lora_params: With a cache, their layers may be `unstack`ed. Empty adapters give
            the base model.
        lora_scale: alpha / rank, or a scale for each row and rank [B, 1, R]; 0 is exactly the base.
        cache: Anything with one element per layer.
        dropout_key: Given in training only.
        remat: What the backward pass keeps of each layer: `none` recomputes nothing,
            `projections` keeps the matrix products with weights, `layer` only the layer's input.
        activations: Type of activations between the products with weights, whose operands have the
            weights' type; None for that type.
        mesh: Given in training: the batch stays where it is, and the parts of a layer's weights
            that fsdp splits are gathered for the layer. None leaves the layout to XLA.

    Returns:
        Hidden states, and the new cache, None without one.
    """
    block_graph, embed = _abstract(config)[0], base_params["embed"]
    rope = rope_tables(positions, rope_frequencies(config))
    axes = _of_a_layer(param_axes(config)["layers"])

    def layer(
        x: Array, weights: PyTree, lora: PyTree, index: Array | int, past: Any
    ) -> tuple[Array, Any]:
        x = constrain(x, mesh, "batch", None, None)
        weights = gather_weights(weights, axes, mesh)
        lora = gather_weights(lora, _of_a_layer(lora_axes(lora)), mesh)
        block = nnx.merge(block_graph, nnx.State(weights))
        key = None if dropout_key is None else jax.random.fold_in(dropout_key, index)
        adapter = Adapter(lora, lora_scale, dropout_rate, key, embed.dtype)

        q, k, v = block.qkv(x, rope, adapter)
        keys, values = k.swapaxes(1, 2), v.swapaxes(1, 2)
        if cache is None:
            return block.finish(x, attention(q, keys, values), adapter), None
        attended, past = attention(q, keys, values, past)
        return block.finish(x, attended, adapter), past

    x = _look_up(base_params, tokens, mesh).astype(activations or embed.dtype)
    if cache is None:
        x = _scan_layers(config, layer, x, base_params["layers"], lora_params, remat, mesh)
    else:
        # The layers are unrolled, since a scan would copy each layer's weights and cache at every
        # decode step. Without the barrier, XLA computes the cosines again in each layer: 7 of 165
        # ms of a step of 64 rows on two CPU cores.
        rope = jax.lax.optimization_barrier(rope)
        updated = []
        for index, past in enumerate(cache):
            weights = _layer_of(base_params["layers"], index)
            x, past = layer(x, weights, _layer_of(lora_params, index), index, past)
            updated.append(past)
        cache = tuple(updated)
    return rms_norm(x, base_params["final_norm"], config.norm_eps), cache


def _look_up(base_params: PyTree, tokens: Array, mesh: Mesh | None) -> Float[Array, "B T D"]:
    """Look up the embeddings of tokens.

    A device looks up its own features for all rows of its fsdp group; then the devices of the group
    exchange them, so that each has all features of its rows.
    """
    if "embed_bits" in base_params:  # see `Model.decode_params`
        return jax.lax.bitcast_convert_type(base_params["embed_bits"][tokens], jnp.bfloat16)
    tokens = constrain(tokens, mesh, "rows", None)
    x = constrain(base_params["embed"][tokens], mesh, "rows", None, "features")
    x = constrain(x, mesh, "rows", None, "embed")  # XLA takes these two moves one at a time only
    return constrain(x, mesh, "batch", None, None)


def _scan_layers(
    config: LlamaConfig,
    layer: Any,
    x: Array,
    weights: PyTree,
    lora: PyTree,
    remat: str,
    mesh: Mesh | None,
) -> Array:
    """Apply all layers by a scan, with the rematerialisation that `remat` names."""
    stored = jax.tree.map(lambda w: w.dtype, weights)

    def step(x: Array, scanned: PyTree) -> tuple[Array, None]:
        weights, lora, index = scanned
        # Undoes `_as_integers`; what it left alone has its type already.
        weights = jax.tree.map(jax.lax.bitcast_convert_type, weights, stored)
        return layer(x, weights, lora, index, None)[0], None

    if x.dtype == jnp.float32:
        # On a CPU, XLA slices a bfloat16 stack from a float32 copy of all of it, but not an integer
        # one.
        weights = jax.tree.map(_as_integers, weights)

    # With `none`, too, where weights are gathered: its policy does not keep those.
    if remat != "none" or gathers(mesh):
        # Within a scan, XLA cannot merge what is recomputed with the forward pass.
        step = jax.checkpoint(step, prevent_cse=False, policy=_REMAT_POLICIES[remat])
    return jax.lax.scan(step, x, (weights, lora, jnp.arange(config.num_layers)))[0]


def _as_integers(weight: Array) -> Array:
    is_bfloat16 = weight.dtype == jnp.bfloat16
    return jax.lax.bitcast_convert_type(weight, jnp.uint16) if is_bfloat16 else weight


def _layer_of(layers: PyTree, index: int) -> PyTree:
    """One layer's weights, of stacked or unstacked layers."""
    return layers[index] if isinstance(layers, tuple) else jax.tree.map(lambda w: w[index], layers)


def unstack(layers: PyTree) -> tuple[PyTree, ...]:
    """Split stacked layers (or adapters) into one tree per layer, as `forward` takes with a cache.

    Decoding reads every weight once per token. On a CPU a slice of a stacked weight is copied
    before it is used, which doubles that, and on a GPU some are (`unstacking`). Unstacking avoids
    it at the price of a second copy of the layers.
    """
    leaves = jax.tree.leaves(layers)
    count = leaves[0].shape[0] if leaves else 0
    return tuple(_layer_of(layers, index) for index in range(count))


def head_kernel(base_params: PyTree) -> Float[Array, "D V"]:
    """The unembedding matrix: the head, or the transposed embedding if the two are tied."""
    return base_params["head"] if "head" in base_params else base_params["embed"].T


def logits_of(base_params: PyTree, hidden: Float[Array, "*n D"]) -> Float[Array, "*n V"]:
    """Compute float32 logits, for a few positions at a time: the result is V wide."""
    tied = "head" not in base_params
    kernel = base_params["embed" if tied else "head"]
    # The embedding is contracted as it is: given embed.T, XLA's CPU backend would transpose a
    # bfloat16 table at every call.
    return jax.lax.dot_general(
        hidden.astype(kernel.dtype),
        kernel,
        (((hidden.ndim - 1,), (1 if tied else 0,)), ((), ())),
        preferred_element_type=jnp.float32,
    )
