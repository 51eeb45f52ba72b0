"""The weights of all models that a batch decodes with, joined."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from dart_jax.generate.engine import Weights
from dart_jax.model.llama import unstack
from dart_jax.model.load import Model
from dart_jax.model.lora import LoraParams, mix_adapters


def joint_weights(model: Model, adapters: Sequence[tuple[LoraParams, float]]) -> Weights:
    """Join the base's weights and all adapters, as one, whose scales tell the models apart."""
    base = model.decode_params
    if not adapters:
        return Weights(base, {}, jnp.zeros((1, 0)))
    joint, scales = mix_adapters(adapters, model.config)
    dtype = base["embed"].dtype
    # The products cast their operands to this type anyway: casting once saves memory traffic.
    joint = jax.tree.map(lambda weight: weight.astype(dtype), joint)
    # As the base's layers are, which `decode_params` may have unstacked.
    layers = unstack(joint) if isinstance(base["layers"], tuple) else joint
    # Row 0 is the base model's, which no adapter reaches.
    return Weights(base, layers, jnp.concatenate([jnp.zeros((1, scales.shape[1])), scales]))
