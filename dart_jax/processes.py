"""Several processes, one program: what only the first does, and how the others learn of it.

On a TPU slice or a multi-node GPU job every host runs the same command. All processes run the
same code in the same order and take part in every computation on the devices, whose arrays are
global. What touches the run's files, a service, a CPU library or the terminal is done by the
first process, in `on_first`, which hands its result, or its failure, to all:

    process 0   decode   on_first(score and save)   train   on_first(save) ...
    process 1   decode   ........ its result ....   train   .............. ...
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")

# How long a process waits for the first one's work: hours of requests to a service are right. A
# process that has died is noticed by jax's coordination service, which then ends the others.
_PATIENCE_MS = 30 * 24 * 3600 * 1000
# A process not heard of for so long is dead; a host that is short of memory may stall for minutes.
_HEARTBEAT_SECONDS = 300
# At its end, a process waits so long for the others to end, too; then they are ended.
_SHUTDOWN_SECONDS = 30

# The same number in every process, since all of them exchange the same things in the same order.
_exchanges = itertools.count()
# Whether this is the first process inside `on_first`, where the others cannot be met.
_alone: ContextVar[bool] = ContextVar("alone", default=False)


class OtherProcessFailed(RuntimeError):
    """An error in another process, which this one cannot go on without; names both."""


class Diverged(RuntimeError):
    """The processes of one job were not started alike."""


def start() -> None:
    """Join the job that the environment describes, before any other use of jax.

    With DART_JAX_DISTRIBUTED=1 the cluster is asked (Cloud TPU, GKE, Slurm, Open MPI). What it
    cannot say is read from JAX_COORDINATOR_ADDRESS (host:port of the first process),
    JAX_NUM_PROCESSES and JAX_PROCESS_ID; more than one JAX_NUM_PROCESSES alone asks for this, too.

    Raises:
        ValueError: The job is not described completely.
    """
    count = _integer("JAX_NUM_PROCESSES")
    if os.environ.get("DART_JAX_DISTRIBUTED") != "1" and (count or 1) == 1:
        return
    import jax

    # The service would catch SIGTERM and leave the process running.
    jax.config.update("jax_enable_preemption_service", False)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            num_processes=count,
            process_id=_integer("JAX_PROCESS_ID"),
            heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=_SHUTDOWN_SECONDS,
        )
    except ValueError as error:
        raise ValueError(
            f"cannot join the other processes ({error}); outside Cloud TPU, GKE, Slurm and Open "
            "MPI set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID"
        ) from error


def _integer(variable: str) -> int | None:
    value = os.environ.get(variable)
    if value is not None and not value.isdecimal():
        raise ValueError(f"{variable} is {value!r}, not a number")
    return None if value is None else int(value)


def check_started() -> None:
    """Raises RuntimeError where the devices belong to several processes that were not joined."""
    import jax

    if jax.process_count() > 1 and not jax.distributed.is_initialized():
        raise RuntimeError(
            f"this is one of {jax.process_count()} hosts that share their devices; set "
            "DART_JAX_DISTRIBUTED=1 and start the same command on each"
        )


def keep_compiled(runs: Path) -> None:
    """Keep compiled programs in the folder of runs, for the next start.

    JAX_COMPILATION_CACHE_DIR, where it is set, says where instead.
    """
    import jax

    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str((runs / ".jax_cache").resolve()))


def process_count() -> int:
    """Processes in this job; 1 unless `jax.distributed` is up."""
    import jax

    return jax.process_count() if jax.distributed.is_initialized() else 1


def process_index() -> int:
    """Which of them this is; the first is 0."""
    import jax

    return jax.process_index() if jax.distributed.is_initialized() else 0


def is_first() -> bool:
    """Whether this process is the one that writes files and talks to people."""
    return process_index() == 0


def barrier(name: str) -> None:
    """Wait until every process has come here; files written before it are there after it."""
    if process_count() > 1 and not _alone.get():
        _client().wait_at_barrier(f"dart_jax/{next(_exchanges)}/{name}", _PATIENCE_MS)


def on_first(work: Callable[[], T]) -> T:
    """Do host-only work in the first process; every process returns its result.

    Inside, nothing may run on the devices: the others would have to take part. An `on_first` in
    it just does its work.

    Args:
        work: Its result must be picklable, and small (megabytes).

    Raises:
        OtherProcessFailed: In the others, when `work` raised in the first.
    """
    if process_count() == 1 or _alone.get():
        return work()
    key = f"dart_jax/{next(_exchanges)}"
    if is_first():
        result = _do_and_tell(work, key)
    else:
        problem, result = _receive(key)
        if problem is not None:
            raise OtherProcessFailed(f"stopped, because the first process failed: {problem}")
    barrier("received")
    if is_first():
        _client().key_value_delete(key)
    return result


def _do_and_tell(work: Callable[[], T], key: str) -> T:
    inside = _alone.set(True)
    try:
        result = work()
    except Exception as error:  # whatever it is, the others must not wait for a result
        _send(key, (_described(error), None))
        raise
    finally:
        _alone.reset(inside)
    _send(key, (None, result))
    return result


def on_every(work: Callable[[], T]) -> T:
    """Do host-only work in every process; where it fails in one, it fails in all.

    Raises:
        OtherProcessFailed: Where only the work of other processes raised.
    """
    if process_count() == 1 or _alone.get():
        return work()
    key = f"dart_jax/{next(_exchanges)}"
    failure, result = None, None
    try:
        result = work()
    except Exception as error:  # whatever it is, the others must hear of it before it is raised
        failure = error
    _send(f"{key}/{process_index()}", failure and _described(failure))
    problems = [_receive(f"{key}/{index}") for index in range(process_count())]
    if failure is not None:
        raise failure
    failed = [f"process {i}: {problem}" for i, problem in enumerate(problems) if problem]
    if failed:
        raise OtherProcessFailed("; ".join(failed))
    return result


def require_same(facts: Mapping[str, str]) -> None:
    """Check that all processes know the same facts as the first.

    Raises:
        Diverged, OtherProcessFailed: With the names of those that differ, and their values.
    """
    firsts = on_first(lambda: dict(facts))

    def compare() -> None:
        differing = [
            f"{name} ({_short(value)}, in the first process {_short(firsts[name])})"
            for name, value in facts.items()
            if value != firsts[name]
        ]
        if differing:
            raise Diverged(
                f"other than in the first process: {'; '.join(differing)}; start the same command "
                "with the same files and packages on every host"
            )

    on_every(compare)


@contextlib.contextmanager
def only_first_prints() -> Iterator[None]:
    """Drop what the other processes print; their stderr stays."""
    if is_first():
        yield
        return
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def progress(title: str, total: int, done: int = 0) -> tqdm:
    """A progress bar; only the first process shows one."""
    return tqdm(total=total, initial=done, desc=title, unit="", disable=not is_first())


def to_host(tree: Any) -> Any:
    """A pytree of global arrays as whole numpy arrays, in every process; all must call it."""
    import jax
    import numpy as np
    from jax.experimental import multihost_utils

    def whole(array: jax.Array) -> np.ndarray:
        if array.is_fully_addressable or array.is_fully_replicated:
            return np.asarray(array)
        return multihost_utils.process_allgather(array, tiled=True)

    return jax.tree.map(whole, tree)


def to_devices(tree: Any, shardings: Any) -> Any:
    """A pytree of host arrays, the same in every process, as global arrays."""
    import jax
    import numpy as np

    def place(array: Any, sharding: jax.sharding.Sharding) -> jax.Array:
        host = np.asarray(array)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    return jax.tree.map(place, tree, shardings)


def _client() -> Any:
    # Not public, but what there is: a wait on the devices (`multihost_utils`) keeps them busy, and
    # is ended by a timeout of minutes on some of them.
    from jax._src.distributed import global_state

    return global_state.client


def _send(key: str, value: Any) -> None:
    _client().key_value_set_bytes(key, pickle.dumps(value))


def _receive(key: str) -> Any:
    return pickle.loads(_client().blocking_key_value_get_bytes(key, _PATIENCE_MS))


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _short(value: str) -> str:
    return value if len(value) <= 40 else f"{value[:40]}..."
