"""Checkpoints of a training run, with orbax, written while the next steps run.

A checkpoint is all that a run needs to go on bit by bit: adapter, optimizer state and step, and
the identity of what they belong to. The step is the position in the data, whose order the plan
fixes, and with the random key it is the state of the dropout noise, too. Where a training may stop
early, the best adapter so far is part of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from jaxtyping import Array, PyTree

from dart_jax.sft.early_stopping import Best
from dart_jax.sft.step import TrainState

# The newest checkpoint, and one to go back to when that is damaged.
KEPT = 2


class RefusedCheckpoint(ValueError):
    """A checkpoint is damaged or of another run; the message names folder, step and remedy."""


class Checkpoints:
    """The newest checkpoints of one stage; use as a context manager, which waits for the last.

    Every process calls every method. Each writes its own shards; the folder is shared.

    Args:
        folder: Holds a folder for each step that is kept.
        identity: What a checkpoint must have in common with the run to be its own: JSON values
            in (nested) dictionaries.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]):
        self.folder = folder
        # As a file gives it back: lists in place of tuples, which would count as differences.
        self._identity = json.loads(json.dumps(identity))
        self._manager = ocp.CheckpointManager(
            folder.resolve(),
            options=ocp.CheckpointManagerOptions(
                max_to_keep=KEPT,
                create=True,
                # A kill leaves half of the checkpoint that was being written.
                cleanup_tmp_directories=True,
                enable_async_checkpointing=True,
            ),
        )

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: Any) -> None:
        self._manager.close()

    def save(self, step: int, state: TrainState, best: Best | None = None) -> None:
        """Begin to write the state after `step`; a crash meanwhile leaves the one before.

        Returns when the state is on the host (on a CPU: when it is held, so that the next step
        cannot take its memory), so that the next step may donate it. The writing goes on in the
        background, and ends before the next save begins.

        Args:
            best: Kept beside the state, for a start that goes on from it; None for none.
        """
        if self._manager.latest_step() == step:
            return
        label = {"identity": self._identity, "checksum": int(checksum(state))}
        items = {"state": ocp.args.StandardSave(state._asdict())}
        if best is not None:
            label["best"] = {**best.figures(), "checksum": int(checksum(best.adapter))}
            items["best"] = ocp.args.StandardSave(best.adapter)
        self._manager.save(step, args=ocp.args.Composite(**items, label=ocp.args.JsonSave(label)))

    def wait(self) -> None:
        """Return when everything that was saved is on disk."""
        self._manager.wait_until_finished()

    def restore(self, like: TrainState, shardings: PyTree) -> TrainState | None:
        """Read the newest state, placed like `shardings`; None when there is none.

        Raises:
            RefusedCheckpoint: It is damaged, or of another run.
        """
        step = self._manager.latest_step()
        if step is None:
            return None

        # The label first: the arrays of another run may have other shapes, and reading them would
        # then be reported as damage.
        label = self._read(step, "label", ocp.args.JsonRestore())
        different = list(differences(label["identity"], self._identity))
        if different:
            raise RefusedCheckpoint(
                f"{self.folder}: the checkpoint of step {step} is of another run: "
                f"{'; '.join(different)}. Go back to that run's settings and data, or delete "
                "the folder to train this stage anew"
            )

        target = _laid_out(like, shardings)
        state = TrainState(**self._read(step, "state", ocp.args.StandardRestore(target._asdict())))

        # A folder that was renamed is whole, so that its checksum matches.
        if int(state.step) != step:
            raise self._damaged(step, f"it holds step {int(state.step)}")
        if int(checksum(state)) != label["checksum"]:
            raise self._damaged(step, "its checksum does not match")
        return state

    def restore_best(self, like: PyTree, shardings: PyTree) -> Best | None:
        """Read the best adapter that was saved beside the newest state; None when there is none.

        Raises:
            RefusedCheckpoint: It is damaged.
        """
        step = self._manager.latest_step()
        label = {} if step is None else self._read(step, "label", ocp.args.JsonRestore())
        if "best" not in label:
            return None

        figures = label["best"]
        target = _laid_out(like, shardings)
        adapter = self._read(step, "best", ocp.args.StandardRestore(target))
        if int(checksum(adapter)) != figures.pop("checksum"):
            raise self._damaged(step, "the checksum of its best adapter does not match")
        return Best(adapter, **figures)

    def _read(self, step: int, item: str, args: ocp.args.CheckpointArgs) -> Any:
        try:
            return self._manager.restore(step, args=ocp.args.Composite(**{item: args}))[item]
        except Exception as error:  # orbax raises a bare one for an array cut short
            raise self._damaged(step, f"{type(error).__name__}: {error}") from error

    def _damaged(self, step: int, why: str) -> RefusedCheckpoint:
        older = [kept for kept in self._manager.all_steps() if kept < step]
        back = f"{self.folder / str(step)} to go on from step {max(older)}, or " if older else ""
        return RefusedCheckpoint(
            f"{self.folder}: the checkpoint of step {step} is damaged ({_first_line(why)}); "
            f"delete {back}{self.folder} to train this stage anew"
        )


def _laid_out(like: PyTree, shardings: PyTree) -> PyTree:
    """Shapes for this start: its devices need not be those that saved the arrays."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        like,
        shardings,
    )


def differences(found: Any, expected: Any, name: str = "") -> Iterator[str]:
    """Yield each difference of two nested dictionaries, as `adapter.rank is 8, not 16`."""
    if isinstance(found, dict) and isinstance(expected, dict):
        for key in sorted(found.keys() | expected.keys()):
            inner = f"{name}.{key}" if name else key
            yield from differences(found.get(key), expected.get(key), inner)
    elif found != expected:
        yield f"{name} is {json.dumps(found)}, not {json.dumps(expected)}"


@jax.jit
def checksum(tree: PyTree) -> Array:
    """Sum of all bits, read as unsigned integers, modulo 2^32: the same for any sharding.

    Orbax checks what describes the arrays; a changed byte in an array's values would pass.
    """
    # A sum of integers wraps around, and no order of the summands changes it.
    total = jnp.zeros((), jnp.uint32)
    for leaf in jax.tree.leaves(tree):
        bits = jax.lax.bitcast_convert_type(leaf, f"uint{8 * leaf.dtype.itemsize}")
        total += bits.astype(jnp.uint32).sum(dtype=jnp.uint32)
    return total


def _first_line(text: str, limit: int = 200) -> str:
    line = text.strip().splitlines()[0]
    return line if len(line) <= limit else line[:limit] + "..."
