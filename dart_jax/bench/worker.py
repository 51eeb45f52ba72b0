"""A variant in a process of its own: it loads, then sleeps until it is told to run a round.

Own processes keep each framework's memory, threads and allocator apart.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from dart_jax.bench.jobs import Round, Variant

_LOG_END = 3000
_SPAWN = multiprocessing.get_context("spawn")


class WorkerDied(RuntimeError):
    """A worker process ended before its work did; the message has the end of its log."""


class Worker:
    """The parent's end of a process that holds one session; use as a context manager.

    A session is made of (job, variant): it loads, compiles and touches memory. It has

        facts() -> dict             what the variant's name does not tell, the device, its speed
        round(epoch) -> Round       does the job once, or one epoch of it; timed

    Args:
        session: Its class; the process imports the module and makes one.
        log: Folder for what the process prints.
    """

    def __init__(self, session: Callable[..., Any], job: Any, variant: Variant, log: Path):
        self.variant = variant
        self._log = log / f"{variant.name}.log"
        self._pipe, far_end = _SPAWN.Pipe()
        arguments = (far_end, self._log, session, job, variant)
        self._process = _SPAWN.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        far_end.close()
        self.pid = self._process.pid

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type | None, *_: Any) -> None:
        if kind is not None:
            self._process.kill()
        self._pipe.close()
        self._process.join()

    def facts(self) -> dict[str, Any]:
        """Wait until the session is ready; raises WorkerDied, as `round` does."""
        return self._receive("loading")

    def round(self, epoch: int) -> Round:
        """Run one round."""
        self._pipe.send(epoch)
        return self._receive(f"round {epoch + 1}")

    def _receive(self, during: str) -> Any:
        try:
            return self._pipe.recv()
        except (EOFError, ConnectionError):
            self._process.join()
        status = self._process.exitcode
        # A negative status is a signal; 9 is what the kernel sends when memory runs out.
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        log = self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""
        name = self.variant.name
        raise WorkerDied(f"the worker {name} ended in {during} with {how}:\n{log[-_LOG_END:]}")


def _serve(
    pipe: Connection, log: Path, session: Callable[..., Any], job: Any, variant: Variant
) -> None:
    """The child's end: load, then run rounds until the parent closes the pipe."""
    printed = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(printed, stream.fileno())
    # Workers share one accelerator: none takes its memory in advance, each may take most.
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"] = "0.95"

    loaded = session(job, variant)
    pipe.send(loaded.facts())
    while True:
        try:
            epoch = pipe.recv()
        except EOFError:
            return
        pipe.send(loaded.round(epoch))


def product_rate(multiply: Callable[[], Any], wait: Callable[[Any], Any], size: int) -> float:
    """Operations a second of a product of two square matrices of this size."""
    wait(multiply())
    started = time.perf_counter()
    products = [multiply() for _ in range(8)]
    wait(products)
    return 8 * 2 * size**3 / (time.perf_counter() - started)


def memory_bytes(field: str, pid: int | str = "self") -> int:
    """Read a field of the kernel's account of a process, such as VmHWM: its largest resident set.

    `getrusage` would begin, in a child, with what its parent held at the fork.

    Raises:
        RuntimeError: The field is missing: no Linux from 4.5 on, or the process has ended.
        FileNotFoundError: There is no such process.
    """
    path = Path(f"/proc/{pid}/status")
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{field}:"):
            return 1024 * int(line.split()[1])
    raise RuntimeError(f"{path} has no {field}; the benchmarks need Linux 4.5 or later")
