"""SIGTERM as a request to stop after the step in flight, on which all processes agree."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dart_jax.processes import process_count

# What a shell reports for a process that SIGTERM has ended.
EXIT_STATUS = 128 + signal.SIGTERM


class Terminated(SystemExit):
    """A SIGTERM ended the training after a step that was saved; the exit status is 143."""


class Preemption:
    """A handler of SIGTERM that remembers it; use as a context manager around the steps.

    The previous handler is set again afterwards; it gets a SIGTERM that came too late for `agreed`.
    Python lets only the main thread set handlers: in another thread nothing is set, and SIGTERM
    does what it did before.
    """

    def __init__(self) -> None:
        self.received = False
        self._previous: Any = None
        self._installed = threading.current_thread() is threading.main_thread()
        self._any = _any_process() if process_count() > 1 else None
        self._asked: jax.Array | None = None

    def __enter__(self) -> Preemption:
        if self._installed:
            self._previous = signal.signal(signal.SIGTERM, self._receive)
        return self

    def __exit__(self, error: type[BaseException] | None, *_: Any) -> None:
        if not self._installed:
            return
        # None: the handler was not set from Python, and cannot be set back from there.
        signal.signal(signal.SIGTERM, self._previous or signal.SIG_DFL)
        # With an error, `Terminated` included, the process is about to end anyway.
        if self.received and error is None:
            signal.raise_signal(signal.SIGTERM)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = True

    def agreed(self) -> bool:
        """Decide whether to stop after the step in flight: the same answer in every process.

        Every process calls it once a step. With several processes, the answer is about the
        previous call: the flags are combined on the devices, behind the step in flight, and
        nobody waits for them before the next step has been given to the devices.
        """
        if self._any is None:
            return self.received
        before, self._asked = self._asked, self._any(self.received)
        return before is not None and bool(before)


def _any_process() -> Callable[[bool], jax.Array]:
    """Make a function that tells, as an array on its way, if the flag is true in any process."""
    mesh = Mesh(np.asarray(jax.devices()), ("device",))
    split = NamedSharding(mesh, PartitionSpec("device"))
    combine = jax.jit(jnp.any, out_shardings=NamedSharding(mesh, PartitionSpec()))

    def ask(flag: bool) -> jax.Array:
        local = np.full(jax.local_device_count(), flag)
        return combine(jax.make_array_from_process_local_data(split, local))

    return ask
