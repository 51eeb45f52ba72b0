"""`train_step` under `jax.jit`, as `sft.loop.train` has it, for whatever runs single steps.

The loop keeps its own call in view; tests/sft/test_one_program.py holds the two equal.
"""

from __future__ import annotations

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
    """Make the function (state, base_params, batches, key, reference, layout) -> (state, metrics).

    Args:
        state, base_params: Arrays, or their `jax.ShapeDtypeStruct`.
    """
    shardings = step_shardings(spec, state, base_params)
    return jax.jit(
        partial(train_step, spec=spec, optimizer=optimizer),
        static_argnames="layout",
        donate_argnames="state",
        in_shardings=shardings.arguments,
        out_shardings=shardings.results,
        compiler_options=compiler_options(spec.mesh),
    )
