"""Early stopping: the best adapter that a training has had, by its loss on held-out examples."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from dart_jax.model.lora import LoraParams


class Best(NamedTuple):
    """The adapter of the least held-out loss so far; of equal ones, the first.

    Attributes:
        adapter: A copy, since the next step takes the memory of the one that was measured.
        step: Optimizer steps before it.
        loss: Its loss on the held-out examples, in nats.
        since: Measurements after it, none of which was lower.
    """

    adapter: LoraParams
    step: int
    loss: float
    since: int = 0

    def figures(self) -> dict[str, int | float]:
        """Everything but the adapter, as JSON has it."""
        return {"step": self.step, "loss": self.loss, "since": self.since}


def best_of(best: Best | None, step: int, loss: float, adapter: LoraParams) -> Best:
    """Compare a new measurement with the best of those before it; None when it is the first."""
    if best is None or loss < best.loss:
        return Best(_copy(adapter), step, loss)
    return best._replace(since=best.since + 1)


@jax.jit
def _copy(adapter: LoraParams) -> LoraParams:
    return jax.tree.map(jnp.copy, adapter)
