"""A variant in a process of its own: it loads, then sleeps until it is told to run a round.

Own processes keep each framework's memory, threads and allocator apart. Requests and replies are
JSON lines over the child's standard input and output; what libraries print goes to its log.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from dart_jax.bench.generate_job import GenerateJob, GenerateVariant, PairsRound
from dart_jax.bench.job import AnyRound, AnyVariant, Job, Round, Session, Variant, read_as


class Task(NamedTuple):
    """The types of one benchmark, and the module of each framework's session."""

    job: type
    variant: type
    round: type
    sessions: dict[str, str]


TASKS = {
    "train": Task(
        Job,
        Variant,
        Round,
        {"ours": "dart_jax.bench.ours_train", "hf": "dart_jax.bench.hf_train"},
    ),
    "generate": Task(
        GenerateJob,
        GenerateVariant,
        PairsRound,
        {
            "ours": "dart_jax.bench.ours_generate",
            "hf": "dart_jax.bench.hf_generate",
            "release": "dart_jax.bench.hf_generate",
        },
    ),
}


class WorkerDied(RuntimeError):
    """A worker process ended before its work did; the message has the end of its log."""


class Worker:
    """The parent's end; use as a context manager. Loads when made.

    Args:
        job: File written by `write_job`.
        variant: What to run.
        log: Folder for what the worker prints.

    Raises:
        WorkerDied: Here or in any call; with exit status and log.
    """

    def __init__(self, job: Path, variant: AnyVariant, log: Path):
        self.variant = variant
        self._log = log / f"{job.stem}-{variant.name}.log"
        argument = json.dumps(dataclasses.asdict(variant))
        with open(self._log, "wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "dart_jax.bench.worker", variant.task, str(job), argument],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=_environment(),
                text=True,
            )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type | None, *_: Any) -> None:
        if kind is not None:
            self._process.kill()
        self._process.communicate()

    def describe(self) -> dict[str, Any]:
        """See `Session`."""
        return self._call("describe")

    def warm_up(self) -> None:
        """See `Session`."""
        self._call("warm_up")

    def round(self, epoch: int) -> AnyRound:
        """See `Session`."""
        kind = TASKS[self.variant.task].round
        return TypeAdapter(kind).validate_python(self._call("round", epoch))

    def matmul_rate(self) -> float:
        """See `Session`."""
        return self._call("matmul_rate")

    def _call(self, method: str, *arguments: Any) -> Any:
        try:
            self._process.stdin.write(json.dumps([method, *arguments]) + "\n")
            self._process.stdin.flush()
            reply = self._process.stdout.readline()
        except BrokenPipeError:
            reply = ""
        if not reply:
            raise WorkerDied(self._obituary(method))
        return json.loads(reply)

    def _obituary(self, method: str) -> str:
        status = self._process.wait()
        # A negative status is a signal; 9 is what the kernel sends when memory runs out.
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        tail = self._log.read_text(encoding="utf-8", errors="replace")[-3000:]
        return f"the worker {self.variant.name} ended in {method} with {how}:\n{tail}"


def _environment() -> dict[str, str]:
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    memory = {
        # Workers share one accelerator: none takes its memory in advance, each may take most.
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.95",
    }
    return {**os.environ, **memory, "PYTHONPATH": path}


def serve(task: Task, job_path: Path, variant_text: str) -> None:
    """The child's end: load, then answer requests until the parent closes the pipe."""
    # Replies keep the real standard output to themselves.
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    variant = read_as(task.variant, variant_text)
    job = read_as(task.job, job_path.read_text(encoding="utf-8"))
    session: Session = importlib.import_module(task.sessions[variant.framework]).open_session(
        job, variant
    )
    for line in sys.stdin:
        method, *arguments = json.loads(line)
        result = getattr(session, method)(*arguments)
        plain = dataclasses.asdict(result) if dataclasses.is_dataclass(result) else result
        replies.write(json.dumps(plain) + "\n")
        replies.flush()


if __name__ == "__main__":
    serve(TASKS[sys.argv[1]], Path(sys.argv[2]), sys.argv[3])
