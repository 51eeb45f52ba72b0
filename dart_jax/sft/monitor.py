"""Asynchronous logging of a training run: no device waits for a log line."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from dart_jax.processes import is_primary
from dart_jax.sft.batch import StepBatch
from dart_jax.sft.metrics import LogLine, NonFiniteLoss, Workload, make_log_line
from dart_jax.sft.packing import Plan
from dart_jax.sft.sinks import Sink
from dart_jax.sft.step import Metrics
from dart_jax.sft.validation import ValidationLine


class _StepInFlight(NamedTuple):
    step: int
    batch: StepBatch
    begun: float
    metrics: Metrics | None = None


class Monitor:
    """Reads the metrics of each step while the next one runs, so that no device waits for it.

    Use as a context manager around the steps, and call `before` and `after` around each.

    Args:
        learning_rates: The one of each step, on the host: computing it on the devices would wait
            for the step in flight.
        sinks: Where the log lines go. The first failure of each is a warning; training goes on.
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
        self._failed_sinks: set[str] = set()
        self._shapes: set[Any] = set()
        self._starting: _StepInFlight | None = None
        self._in_flight: _StepInFlight | None = None
        self._ended = -math.inf  # when the last step was over, on the clock of perf_counter
        self.lines: list[LogLine] = []

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *_: Any) -> None:
        self._trace.end()
        for sink in self._sinks:
            self._guard(sink, sink.close)

    def before(self, step: int, batch: StepBatch) -> None:
        """Note that a step, counted from 1, is about to be given to the devices.

        Raises:
            NonFiniteLoss: The step before it; see `flush`.
        """
        shape = (batch.batch.tokens.shape, batch.layout)
        if shape not in self._shapes or step == self._trace.first:
            self.flush()  # the compilation is this step's, and the trace begins with it
        self._shapes.add(shape)
        self._trace.start(step)
        self._starting = _StepInFlight(step, batch, time.perf_counter())

    def after(self, metrics: Metrics) -> None:
        """Take the metrics, on their way, of the step that `before` noted; log the one before it.

        Raises:
            NonFiniteLoss: The step before it; see `flush`.
        """
        previous = self._in_flight
        self._in_flight = self._starting._replace(metrics=metrics)
        # The devices have their next step by now: waiting for the one before holds up none.
        if previous is not None:
            self._log(previous)
        if self._in_flight.step == self._trace.last:
            self.flush()
            self._trace.end()

    def flush(self) -> None:
        """Log the step in flight, if there is one; returns when it is over.

        Raises:
            NonFiniteLoss: With the step, the example ids and what to try.
        """
        last, self._in_flight = self._in_flight, None
        if last is not None:
            self._log(last)

    def measured(self, line: ValidationLine) -> None:
        """Pass a measurement on the held-out examples on to the sinks."""
        for sink in self._sinks:
            self._guard(sink, lambda sink=sink: sink.measured(line))

    def _log(self, finished: _StepInFlight) -> None:
        jax.block_until_ready(finished.metrics)
        now = time.perf_counter()
        # A step that was given while another ran began when that one ended.
        seconds = now - max(finished.begun, self._ended)
        self._ended = now

        index = finished.step - 1
        line = make_log_line(
            finished.step,
            finished.metrics,
            finished.batch,
            self._plan.examples,
            self._work,
            learning_rate=self._learning_rates[index],
            seconds=seconds,
        )
        _check_finite(line, self._plan.ids(index))

        self.lines.append(line)
        for sink in self._sinks:
            self._guard(sink, lambda sink=sink: sink.write(line))

    def _guard(self, sink: Sink, action: Callable[[], None]) -> None:
        name = type(sink).__name__
        try:
            action()
        # A full disk must not cost the training. Any other error is a fault of the sink.
        except OSError as error:
            if name not in self._failed_sinks:
                print(f"warning: {name} failed, training goes on: {error}", file=sys.stderr)
            self._failed_sinks.add(name)

    def summary(self, title: str) -> str:
        """Summarise the steps since this start in one line."""
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
    """A profiler trace of steps `first` to `last`, written into a folder.

    Args:
        folder: Read by TensorBoard's profiler.
        steps: First and last step, 1-based; None for no trace. A run that is resumed between
            them traces those that are left.
    """

    def __init__(self, folder: Path, steps: tuple[int, int] | None):
        self.folder = folder
        # No step is number 0.
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
        if is_primary():
            print(f"trace up to step {self.last} (sft.profile_steps): {self.folder}", flush=True)
