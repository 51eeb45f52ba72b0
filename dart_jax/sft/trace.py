"""A profiler trace of some training steps."""

from __future__ import annotations

from pathlib import Path

import jax

from dart_jax.processes import is_first


class StepTrace:
    """Traces steps `first` to `last` into a folder.

    Args:
        folder: Read by TensorBoard's profiler.
        steps: First and last step, 1-based; None for no trace. A run that is resumed between
            them traces those that are left.
    """

    def __init__(self, folder: Path, steps: tuple[int, int] | None):
        self.folder = folder
        self.first, self.last = steps or (0, 0)
        self._running = False

    def start(self, step: int) -> None:
        """Begin to trace if this is a step to trace and none before it was."""
        if self.first <= step <= self.last and not self._running:
            jax.profiler.start_trace(str(self.folder))
            self._running = True

    def end(self) -> None:
        """Write the trace, if one has begun, and say where it is."""
        if not self._running:
            return
        self._running = False
        jax.profiler.stop_trace()
        if is_first():
            print(f"trace up to step {self.last} (sft.profile_steps): {self.folder}", flush=True)
