"""The training step, lowered for devices that need not be attached, and what it takes of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import PyTree

from dart_jax.config import DartConfig
from dart_jax.model.architecture import LlamaConfig
from dart_jax.model.config import ModelConfig
from dart_jax.model.llama import is_vector, param_shapes
from dart_jax.model.lora import init_lora
from dart_jax.model.packed_attention import Layout
from dart_jax.model.quantize import quantize_params
from dart_jax.sft.batch import Batch, OriginBatch
from dart_jax.sft.jitted_step import jit_step
from dart_jax.sft.step import TrainState, make_optimizer, make_schedule, train_spec


class ProgramMemory(NamedTuple):
    """Bytes of a compiled program on one device, as the compiler counts them."""

    arguments: int
    temporaries: int
    outputs: int
    aliased: int

    @property
    def total(self) -> int:
        """Bytes that have to fit: outputs that lie where arguments lay count once."""
        return self.arguments + self.temporaries + self.outputs - self.aliased


def memory_of(compiled: Any) -> ProgramMemory:
    """Read the compiler's count of a compiled program."""
    memory = compiled.memory_analysis()
    return ProgramMemory(
        memory.argument_size_in_bytes,
        memory.temp_size_in_bytes,
        memory.output_size_in_bytes,
        memory.alias_size_in_bytes,
    )


def base_shapes(model: ModelConfig, architecture: LlamaConfig) -> PyTree:
    """Give the base weights' shapes and types, as `load_model` would place them on a TPU."""
    dtype = jnp.dtype("bfloat16" if model.dtype == "auto" else model.dtype)

    def typed(path: Any, leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        stored = jnp.float32 if is_vector(path[-1].key) else dtype
        return jax.ShapeDtypeStruct(leaf.shape, stored)

    plain = jax.tree_util.tree_map_with_path(typed, param_shapes(architecture))
    return jax.eval_shape(lambda params: quantize_params(params, model.quantize), plain)


def lower_step(
    config: DartConfig, architecture: LlamaConfig, mesh: Mesh, shape: tuple[int, int, int]
) -> Any:
    """Lower the training step of the distill stage for batches of a shape [A, B, T].

    Args:
        mesh: Of devices that need not be attached.
    """
    # The schedule's figures are constants in the program; the number of steps changes no shape.
    schedule = make_schedule(config.sft.learning_rate, config.sft, total_steps=1000)
    optimizer = make_optimizer(schedule, config.sft)

    def initial(key: jax.Array) -> TrainState:
        lora_params = init_lora(key, architecture, config.lora)
        return TrainState(jnp.zeros((), jnp.int32), lora_params, optimizer.init(lora_params))

    key = jax.eval_shape(lambda: jax.random.key(0))
    state = jax.eval_shape(initial, key)
    ids, weights = (jax.ShapeDtypeStruct(shape, dtype) for dtype in (jnp.int32, jnp.float32))
    batch = Batch(tokens=ids, targets=ids, loss_weights=weights, positions=ids, segment_ids=ids)
    # One example fills a row, all of it supervised: no data make a larger step.
    layout = Layout(prefix=0, slot=shape[2], segments=1, supervised=shape[2])
    spec = train_spec(architecture, config.lora, config.sft, mesh)
    if spec.token_loss:
        origins = jax.ShapeDtypeStruct((*shape[:2], layout.segments), jnp.int32)
        batch = OriginBatch(*batch, origins, origins, origins)
    reference = state.lora_params if spec.needs_reference else None
    base_params = base_shapes(config.model, architecture)
    update = jit_step(spec, optimizer, state, base_params)
    return update.lower(state, base_params, batch, key, reference, layout)
