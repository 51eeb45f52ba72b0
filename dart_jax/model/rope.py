"""Rotary position embedding (Su et al. 2021), with the Llama-3.1 frequency rescaling."""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dart_jax.model.architecture import LlamaConfig


def rope_frequencies(config: LlamaConfig) -> np.ndarray:
    """Compute the angular frequency of each feature pair, in radians per token; [H/2] float32."""
    exponent = np.arange(0, config.head_dim, 2, dtype=np.float64) / config.head_dim
    frequencies = config.rope_theta**-exponent
    scaling = config.rope_scaling
    if scaling is None:
        return frequencies.astype(np.float32)

    turns = scaling.original_context_length * frequencies / (2 * math.pi)
    # 1 where a feature turns often within the original context: its frequency stays. 0 where it
    # turns rarely: its wavelength is stretched.
    keep = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    keep = np.clip(keep, 0.0, 1.0)
    return (frequencies * (keep + (1 - keep) / scaling.factor)).astype(np.float32)


def rope_tables(
    positions: Int[Array, "B T"], frequencies: np.ndarray
) -> tuple[Float[Array, "B T half"], Float[Array, "B T half"]]:
    """Compute cosine and sine of every position's angles, in float32."""
    angles = positions[..., None].astype(jnp.float32) * frequencies[None, None, :]
    return jnp.cos(angles), jnp.sin(angles)


def rotate(
    x: Float[Array, "B T heads H"],
    cos: Float[Array, "B T half"],
    sin: Float[Array, "B T half"],
) -> Float[Array, "B T heads H"]:
    """Rotate feature i together with feature i + H/2 (the Hugging Face convention)."""
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    cos, sin = cos[:, :, None, :], sin[:, :, None, :]
    rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return rotated.astype(x.dtype)
