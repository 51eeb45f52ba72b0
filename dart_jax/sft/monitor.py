"""Asynchronous logging of a training run: no device waits for a log line."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from dart_jax.processes import is_first
from dart_jax.sft.batch import StepBatch
from dart_jax.sft.metrics import LogLine, Workload, make_log_line
from dart_jax.sft.packing import Plan
from dart_jax.sft.sinks import Sink
from dart_jax.sft.step import Metrics


class NonFiniteLoss(ArithmeticError):
    """The loss or the gradient is no number; the message names step and examples."""


class _StepInFlight(NamedTuple):
    number: int
    batch: StepBatch
    begun: float
    metrics: Metrics | None = None


class Monitor:
    """Reads the metrics of each step while the next one runs, so that no device waits for it.

    Use as a context manager around the steps, and call for each `before` and `after`.

    Args:
        learning_rates: Of each step. On the host: to compute one on the devices would wait for
            the step in flight.
        sinks: Where the log lines go. One that fails is told of once; the training goes on.
        trace: Steps to trace with the profiler.
    """

    def __init__(
        self,
        plan: Plan,
        work: Workload,
        learning_rates: Sequence[float],
        sinks: Sequence[Sink],
        trace: ProfilerTrace,
    ):
        self._plan, self._work, self._learning_rates = plan, work, learning_rates
        self._sinks, self._trace = sinks, trace
        self._failed: set[str] = set()
        self._shapes: set[Any] = set()
        self._now: _StepInFlight | None = None
        self._given: _StepInFlight | None = None
        self._ended = -math.inf  # when the last step was over, on the clock of perf_counter
        self.lines: list[LogLine] = []

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *_: Any) -> None:
        self._trace.end()
        for sink in self._sinks:
            self._guard(sink, sink.close)

    def before(self, number: int, batch: StepBatch) -> None:
        """A step, counted from 1, is about to be given to the devices.

        Raises:
            NonFiniteLoss: The step before it; see `flush`.
        """
        shape = (batch.batch.tokens.shape, batch.layout)
        if shape not in self._shapes or number == self._trace.first:
            self.flush()  # the compilation is this step's, and the trace begins with it
        self._shapes.add(shape)
        self._trace.start(number)
        self._now = _StepInFlight(number, batch, time.perf_counter())

    def after(self, metrics: Metrics) -> None:
        """The devices have the step; logs the one before it.

        Raises:
            NonFiniteLoss: The step before it; see `flush`.
        """
        before, self._given = self._given, self._now._replace(metrics=metrics)
        if before is not None:
            self._log(before)
        if self._now.number == self._trace.last:
            self.flush()
            self._trace.end()

    def flush(self) -> None:
        """Log the last step given; returns when it is over.

        Raises:
            NonFiniteLoss: With the step, the example ids and what to try.
        """
        given, self._given = self._given, None
        if given is not None:
            self._log(given)

    def _log(self, step: _StepInFlight) -> None:
        jax.block_until_ready(step.metrics)
        now = time.perf_counter()
        seconds = now - max(step.begun, self._ended)
        self._ended = now
        line = make_log_line(
            step.number,
            step.metrics,
            step.batch,
            self._plan.examples,
            self._work,
            learning_rate=self._learning_rates[step.number - 1],
            seconds=seconds,
        )
        _check_finite(line, self._plan.ids(step.number - 1))
        self.lines.append(line)
        for sink in self._sinks:
            self._guard(sink, lambda sink=sink: sink.write(line))

    def _guard(self, sink: Sink, action: Callable[[], None]) -> None:
        name = type(sink).__name__
        try:
            action()
        except OSError as error:
            if name not in self._failed:
                print(f"warning: {name} failed, training goes on: {error}", file=sys.stderr)
            self._failed.add(name)

    def summary(self, title: str) -> str:
        """One line about the steps of this start."""
        if not self.lines:
            return f"{title}: nothing left to train"
        first, last = self.lines[0], self.lines[-1]
        seconds = sum(line.speed.seconds for line in self.lines)

        def rate(count: Callable[[LogLine], int]) -> str:
            return f"{sum(map(count, self.lines)) / seconds:.0f}"

        return (
            f"{title}: steps {first.step}-{last.step} in {seconds:.0f} s, "
            f"loss {first.loss:.3f} -> {last.loss:.3f}; tokens/s: "
            f"{rate(lambda line: line.supervised_tokens)} supervised, "
            f"{rate(lambda line: line.tokens)} real, "
            f"{rate(lambda line: line.padded_tokens)} padded; "
            f"{float(rate(lambda line: line.flops)) / 1e9:.1f} GFLOP/s (compilation included)"
        )


def _check_finite(line: LogLine, ids: list[str]) -> None:
    if all(map(math.isfinite, (line.loss, line.grad_norm, line.update_norm))):
        return
    raise NonFiniteLoss(
        f"step {line.step}: loss {line.loss}, gradient norm {line.grad_norm}, update norm "
        f"{line.update_norm}; examples {', '.join(ids)}. The last checkpoint is from before this "
        "step. Try a lower sft.learning_rate or repair.learning_rate, a smaller sft.clip_norm, or "
        "model.dtype float32; then look at these examples' weights and texts"
    )


class ProfilerTrace:
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
