"""Write the log lines of a training run: to log.jsonl, trackers, a progress bar."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from tqdm import tqdm

from dart_jax.append_only import append_jsonl, resume_jsonl
from dart_jax.processes import is_primary
from dart_jax.records import write_jsonl
from dart_jax.sft.metrics import LogLine, scalars
from dart_jax.sft.trackers import Tracking, TrackioRun, WandbRun
from dart_jax.sft.validation import VALIDATION_LOSS, ValidationLine


@runtime_checkable
class Sink(Protocol):
    """Where log lines go."""

    def write(self, line: LogLine) -> None:
        """Take the next line. Raises OSError, which does not end the training."""

    def measured(self, line: ValidationLine) -> None:
        """Take a measurement on the held-out examples, after the lines of the steps before it."""

    def close(self) -> None:
        """End: no further line will come."""


class LogFile:
    """`log.jsonl`. A line that could not be written is tried again with the next one.

    Attributes:
        told: The last step that an earlier start has logged, here and elsewhere; 0 for none.
    """

    def __init__(self, path: Path, done: int):
        self.path = path
        earlier = resume_jsonl(path, LogLine)
        self.told = earlier[-1].step if earlier else 0
        # Steps after the checkpoint are about to be run again: their lines go.
        kept = [line for line in earlier if line.step <= done]
        write_jsonl(path, kept)
        missing = sorted(set(range(1, done + 1)) - {line.step for line in kept})
        if missing:
            _warn(f"{path} lacks {len(missing)} of {done} finished steps, first {missing[0]}")
        self._whole = path.stat().st_size
        self._waiting: list[LogLine] = []

    def write(self, line: LogLine) -> None:
        """Append the line durably."""
        self._waiting.append(line)
        self._append()

    def measured(self, line: ValidationLine) -> None:
        """Do nothing: `validation.jsonl` is a file of its own."""

    def _append(self) -> None:
        if self.path.stat().st_size > self._whole:
            os.truncate(self.path, self._whole)  # what a failed attempt left
        append_jsonl(self.path, self._waiting)
        self._waiting.clear()
        self._whole = self.path.stat().st_size

    def close(self) -> None:
        """Try once more to write what is not on disk."""
        if self._waiting:
            self._append()


class EventFile:
    """Scalars for TensorBoard, in one file a start.

    Written in this thread: the library's own writer fills a queue, and a training step would
    wait for ever behind a full disk.
    """

    def __init__(self, folder: Path, done: int):
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import SessionLog

        folder.mkdir(parents=True, exist_ok=True)
        # The name holds the second of the start: the suffix tells two starts within one apart.
        self._writer = EventsWriter(str(folder / "events"), f".{os.getpid()}.{done}")
        # TensorBoard forgets what an earlier start logged from this step on.
        self._event(done + 1, session_log=SessionLog(status=SessionLog.START))

    def _event(self, step: int, **what: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._writer.write_event(Event(step=step, wall_time=time.time(), **what))
        # At once: TensorBoard shows a training while it runs.
        self._writer.flush()

    def write(self, line: LogLine) -> None:
        """Write every number of the line as a scalar; those of a group as `group/name`."""
        self._scalars(line.step, scalars(line))

    def measured(self, line: ValidationLine) -> None:
        """Write the loss as a scalar at the step that it was measured after."""
        self._scalars(line.step, [(VALIDATION_LOSS, line.loss)])

    def _scalars(self, step: int, values: Iterable[tuple[str, float]]) -> None:
        from tensorboardX.proto.summary_pb2 import Summary

        written = [Summary.Value(tag=tag, simple_value=value) for tag, value in values]
        self._event(step, summary=Summary(value=written))

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


class ProgressBar:
    """A progress bar on the terminal, with loss and speed."""

    def __init__(self, title: str, total: int, done: int):
        self._bar = tqdm(None, title, total=total, initial=done, unit="step", smoothing=0)
        self._held_out = ""

    def write(self, line: LogLine) -> None:
        """Move on by a step."""
        speed = line.speed.supervised_tokens_per_second
        loss = f"loss {line.loss:.3f}{self._held_out}"
        self._bar.set_postfix_str(f"{loss}, {speed:.0f} supervised tok/s", False)
        self._bar.update()

    def measured(self, line: ValidationLine) -> None:
        """Show the loss from the next step on."""
        self._held_out = f" (held out {line.loss:.3f})"

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()


def open_sinks(
    folder: Path, title: str, total: int, done: int, tracking: Tracking | None = None
) -> list[Sink]:
    """Open the first process's log, trackers and progress bar; none in the others.

    Args:
        tracking: None for TensorBoard alone.

    Raises:
        TrackerFailed: A tracker opened no run.
    """
    if not is_primary():
        return []
    tracking = tracking or Tracking()
    log = LogFile(folder / "log.jsonl", done)
    sinks: list[Sink] = [log]
    # A finished training that is only read back would add an event file without an event.
    if done < total:
        if "tensorboard" in tracking.trackers:
            sinks.append(EventFile(folder / "tensorboard", done))
        if "wandb" in tracking.trackers:
            sinks.append(WandbRun(folder, title, tracking, log.told))
        if "trackio" in tracking.trackers:
            sinks.append(TrackioRun(folder, title, tracking, log.told))
    return [*sinks, ProgressBar(title, total, done)]


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr, flush=True)
