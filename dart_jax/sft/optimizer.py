"""AdamW with linear warm-up, cosine decay and global-norm clipping."""

import optax

from dart_jax.sft.config import SftConfig


def make_schedule(learning_rate: float, config: SftConfig, total_steps: int) -> optax.Schedule:
    """Learning rate by step: from 0 up to the peak over the warm-up share, then down to 0."""
    warmup = max(1, round(config.warmup_share * total_steps))
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0 if warmup > 1 else learning_rate,
        peak_value=learning_rate,
        warmup_steps=warmup,
        decay_steps=max(total_steps, warmup + 1),
    )


def make_optimizer(schedule: optax.Schedule, config: SftConfig) -> optax.GradientTransformation:
    """Clip unless `clip_norm` is null, then AdamW (Loshchilov and Hutter 2019)."""
    clip = optax.identity()
    if config.clip_norm is not None:
        clip = optax.clip_by_global_norm(config.clip_norm)
    return optax.chain(clip, optax.adamw(schedule, weight_decay=config.weight_decay))
