"""Checkpoints of a training run, with orbax."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from dart_jax.sft.step import TrainState


class Checkpoints:
    """The newest checkpoint of one stage, in `folder`; use as a context manager."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._manager = ocp.CheckpointManager(
            folder.resolve(), options=ocp.CheckpointManagerOptions(max_to_keep=1, create=True)
        )

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: Any) -> None:
        self._manager.close()

    def save(self, state: TrainState) -> None:
        """Write the state; a crash while writing leaves the previous checkpoint."""
        self._manager.save(int(state.step), args=ocp.args.StandardSave(state._asdict()))
        self._manager.wait_until_finished()

    def restore(self, like: TrainState, shardings: PyTree) -> TrainState | None:
        """The newest state, placed like `shardings`; None when there is none.

        Raises:
            ValueError: The checkpoint is of another adapter or optimizer; names the folder.
        """
        step = self._manager.latest_step()
        if step is None:
            return None
        target = jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            like,
            shardings,
        )
        try:
            restored = self._manager.restore(step, args=ocp.args.StandardRestore(target._asdict()))
        except Exception as error:  # orbax raises a bare one for an array cut short
            raise ValueError(
                f"{self.folder}: the checkpoint of step {step} is damaged or of another "
                f"configuration; delete the folder to train this stage again ({error})"
            ) from error
        return TrainState(**restored)
