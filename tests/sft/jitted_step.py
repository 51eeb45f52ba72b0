"""`train_step` under `jax.jit`, as `sft.loop.train` has it, for tests that run single steps."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import optax
from jaxtyping import PyTree

from dart_jax.model.sharding import compiler_options
from dart_jax.sft.step import TrainSpec, TrainState, step_shardings, train_step


def jit_step(
    spec: TrainSpec,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    base_params: PyTree,
) -> Callable[..., Any]:
    """A function (state, base_params, batches, key, reference, layout) -> (state, metrics)."""
    shardings = step_shardings(spec, state, base_params)
    return jax.jit(
        partial(train_step, spec=spec, optimizer=optimizer),
        static_argnames="layout",
        donate_argnames="state",
        in_shardings=shardings.arguments,
        out_shardings=shardings.results,
        compiler_options=compiler_options(spec.mesh),
    )
