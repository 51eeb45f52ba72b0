"""Attention of packed rows by kernels that never write the scores to memory.

cuDNN's is in `cudnn_attention`. Splash attention (TPU, from jax's Pallas library) masks by segment,
and a key has one segment only. So the shared prefix's keys are passed once for every segment,
before the keys of the row:

    keys        p p p p p p | p p p a a b b b       of a row with prefix p and examples a, b
    segments    1 1 1 2 2 2 |-1-1-1 1 1 2 2 2
    query a_2   x x x . . . | . . . x x . . .
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Int

from dart_jax.model.attention import Attention
from dart_jax.model.cudnn_attention import cudnn_attention
from dart_jax.model.packed_attention import ATTENDED, Layout, packed_attention
from dart_jax.model.sharding import sharding_of

# The TPU's lane width. Splash attention's blocks and head sizes must be multiples of it.
_LANES = 128
# Splash blocks in queries and keys, where the row is long enough.
_BLOCK = 512
# Segment id of keys that pad the last block; no query has it.
_NOBODY = -2


def choose_attention(asked: str, platform: str, dtype: Any) -> str:
    """Resolve `sft.attention: auto`: splash on a TPU, cudnn on a GPU in bfloat16, else xla.

    Raises:
        ValueError: The kernel does not exist for this platform or type.
    """
    has_cudnn = platform in ("gpu", "cuda") and jnp.dtype(dtype).itemsize == 2
    if asked == "auto":
        return "splash" if platform == "tpu" else "cudnn" if has_cudnn else "xla"
    if asked == "splash" and platform != "tpu":
        raise ValueError(f"sft.attention: splash is for TPUs, the devices are {platform}; try auto")
    if asked == "cudnn" and not has_cudnn:
        raise ValueError(
            f"sft.attention: cudnn needs an NVIDIA GPU and model.dtype bfloat16; the devices are "
            f"{platform}, the type is {jnp.dtype(dtype).name}; try auto"
        )
    return asked


def training_attention(
    kind: str,
    positions: Int[Array, "B T"],
    segment_ids: Int[Array, "B T"],
    layout: Layout,
    mesh: Mesh | None,
    dtype: Any,
) -> Attention:
    """Make the attention function of packed rows, by `xla`, `cudnn` or `splash`.

    Args:
        dtype: Type of the operands of `xla`'s products; the kernels take them as they come.
    """
    if kind == "splash":
        return splash_attention(segment_ids, layout, mesh)
    if kind == "cudnn":
        return cudnn_attention(positions, segment_ids, layout)
    return packed_attention(positions, segment_ids, layout, dtype)


def splash_attention(
    segment_ids: Int[Array, "B T"],
    layout: Layout,
    mesh: Mesh | None = None,
    interpret: bool = False,
) -> Attention:
    """Make an attention function that runs splash on each device's rows and heads.

    Args:
        interpret: Interpret the kernel, so that it runs on any backend (tests).
    """
    run = partial(_splash, layout=layout, interpret=interpret)

    def attention(query: Array, key: Array, value: Array) -> Array:
        if mesh is None or mesh.size == 1:
            return run(query, key, value, segment_ids)
        heads = sharding_of(mesh, ("batch", "kv_heads", None, None), key.shape).spec
        queries = PartitionSpec(heads[0], None, heads[1], None)
        local = jax.shard_map(
            run,
            mesh=mesh,
            in_specs=(queries, heads, heads, PartitionSpec(heads[0], None)),
            out_specs=queries,
            check_vma=False,  # the kernel's outputs do not say over which axes they vary
        )
        return local(query, key, value, segment_ids)

    return attention


def _splash(
    query: Array,
    key: Array,
    value: Array,
    segment_ids: Array,
    *,
    layout: Layout,
    interpret: bool,
) -> Array:
    """Pad rows and heads to whole blocks, run the kernel, and cut its result to [B,T,N,H]."""
    B, T, N, H = query.shape
    P, S = layout.prefix, layout.segments if layout.prefix else 0
    block = min(_BLOCK, _round_up(T, _LANES))
    fill_queries = -T % block
    fill_keys = -(S * P + T) % block

    copies = jnp.broadcast_to(jnp.repeat(jnp.arange(1, S + 1), P), (B, S * P)).astype(jnp.int32)
    query_ids = jnp.pad(segment_ids, ((0, 0), (0, fill_queries)))
    key_ids = jnp.pad(
        jnp.concatenate([copies, segment_ids], axis=1),
        ((0, 0), (0, fill_keys)),
        constant_values=_NOBODY,
    )

    def widen(x: Array) -> Array:  # pad features to a multiple of the lanes
        return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, -H % _LANES)))

    def with_copies(x: Array) -> Array:
        x = jnp.concatenate([jnp.tile(x[:, :, :P], (1, 1, S, 1)), x], axis=2)
        return widen(jnp.pad(x, ((0, 0), (0, 0), (0, fill_keys), (0, 0))))

    # The kernel does not scale scores. H is the head's size before it is padded.
    queries = query.swapaxes(1, 2) * math.sqrt(1 / H)
    queries = widen(jnp.pad(queries, ((0, 0), (0, 0), (0, fill_queries), (0, 0))))
    kernel = _splash_kernel(N, T + fill_queries, key_ids.shape[1], S * P, block, interpret)
    out = jax.vmap(kernel)(
        queries, with_copies(key), with_copies(value), _segment_ids(query_ids, key_ids)
    )
    return out[:, :, :T, :H].swapaxes(1, 2).astype(query.dtype)


def _segment_ids(queries: Array, keys: Array) -> Any:
    from jax.experimental.pallas.ops.tpu.splash_attention import SegmentIds

    return SegmentIds(queries, keys)


def _splash_kernel(
    heads: int, queries: int, keys: int, before: int, block: int, interpret: bool
) -> Any:
    """Make the kernel for a causal mask in which `before` keys stand in front of the row."""
    from jax.experimental.pallas.ops.tpu.splash_attention import (
        BlockSizes,
        CausalMask,
        MultiHeadMask,
        make_splash_mha_single_device,
    )

    # The offset lets every query see all of the copies; the segments leave it its own one.
    causal = CausalMask((queries, keys), offset=before)
    sizes = BlockSizes(
        block_q=block,
        block_kv=block,
        block_kv_compute=block,
        block_q_dkv=block,
        block_kv_dkv=block,
        block_kv_dkv_compute=block,
        block_q_dq=block,
        block_kv_dq=block,
    )
    return make_splash_mha_single_device(
        MultiHeadMask([causal] * heads),
        block_sizes=sizes,
        # Under this name rematerialisation keeps what the backward pass starts from.
        residual_checkpoint_name=ATTENDED,
        interpret=interpret,
    )


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
