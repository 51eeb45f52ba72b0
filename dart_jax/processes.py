"""Multi-process jobs: join them, work in the first process alone, and share its results.

On a TPU slice or a multi-node GPU job every host runs the same command. All processes run the
same code in the same order and take part in every computation on the devices, whose arrays are
global. Work on the run's files, a service, a CPU library or the terminal is done by the first
process, in `on_primary`, which sends its result, or its failure, to all:

    process 0   decode   on_primary(score and save)   train   on_primary(save) ...
    process 1   decode   .......... its result ....   train   ................ ...
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")

# How long a process waits for the first one's work, which may be hours of requests to a service. It
# need not be short: if a process dies, jax's coordination service notices and ends the others.
_PATIENCE_MS = 30 * 24 * 3600 * 1000
# After so long without a heartbeat a process counts as dead. A host that is short of memory may
# stall for minutes.
_HEARTBEAT_SECONDS = 300
# A process that has ended waits so long for the others; then they are ended.
_SHUTDOWN_SECONDS = 30

# Numbers the exchanges. The same in every process, since all exchange the same things in one order.
_exchanges = itertools.count()
# True in the first process inside `on_primary`, where a wait for the others would never end.
_alone: ContextVar[bool] = ContextVar("alone", default=False)


class OtherProcessFailed(RuntimeError):
    """An error in another process, which this one cannot go on without; names both."""


class Diverged(RuntimeError):
    """The processes of one job were not started alike."""


def start() -> None:
    """Join the job that the environment describes, before any other use of jax.

    With DART_JAX_DISTRIBUTED=1, or with JAX_NUM_PROCESSES above 1, jax asks the cluster (Cloud TPU,
    GKE, Slurm, Open MPI). What the cluster does not say is read from JAX_COORDINATOR_ADDRESS
    (host:port of the first process), JAX_NUM_PROCESSES and JAX_PROCESS_ID.

    Raises:
        ValueError: The job is not described completely.
    """
    count = _integer("JAX_NUM_PROCESSES")
    if os.environ.get("DART_JAX_DISTRIBUTED") != "1" and (count or 1) == 1:
        return
    import jax

    # The preemption service would catch SIGTERM and leave the process running.
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
    """Raise RuntimeError where the devices belong to several processes that were not joined."""
    import jax

    if jax.process_count() > 1 and not jax.distributed.is_initialized():
        raise RuntimeError(
            f"this is one of {jax.process_count()} hosts that share their devices; set "
            "DART_JAX_DISTRIBUTED=1 and start the same command on each"
        )


def process_count() -> int:
    """Number of processes in this job; 1 unless `jax.distributed` is up."""
    import jax

    return jax.process_count() if jax.distributed.is_initialized() else 1


def process_index() -> int:
    """Index of this process in its job; the first is 0."""
    import jax

    return jax.process_index() if jax.distributed.is_initialized() else 0


def is_primary() -> bool:
    """Tell whether this process is the one that writes files and talks to people."""
    return process_index() == 0


def barrier(name: str) -> None:
    """Wait until every process has come here, so that files written before it can be read after."""
    if process_count() > 1 and not _alone.get():
        _client().wait_at_barrier(f"dart_jax/{next(_exchanges)}/{name}", _PATIENCE_MS)


def on_primary(work: Callable[[], T]) -> T:
    """Do host-only work in the first process; every process returns its result.

    The work must not compute on the devices, since the other processes would have to take part. An
    `on_primary` within the work runs directly.

    Args:
        work: Its result must be picklable, and small (megabytes).

    Raises:
        OtherProcessFailed: In the other processes, when `work` raised in the first.
    """
    if process_count() == 1 or _alone.get():
        return work()

    key = f"dart_jax/{next(_exchanges)}"
    if is_primary():
        result = _do_and_tell(work, key)
    else:
        problem, result = _receive(key)
        if problem is not None:
            raise OtherProcessFailed(f"stopped, because the first process failed: {problem}")

    # The key may be deleted once everyone has read it.
    barrier("received")
    if is_primary():
        _client().key_value_delete(key)
    return result


def _do_and_tell(work: Callable[[], T], key: str) -> T:
    """Do the work, and send `(problem, result)` to the other processes in either case."""
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


def on_all(work: Callable[[], T]) -> T:
    """Do host-only work in every process; if it fails in one, it fails in all.

    Raises:
        OtherProcessFailed: Only the work of other processes raised.
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
    # Read before anything is raised: all processes then know of all failures, and end alike.
    problems = [_receive(f"{key}/{index}") for index in range(process_count())]

    if failure is not None:
        raise failure
    failed = [f"process {i}: {problem}" for i, problem in enumerate(problems) if problem]
    if failed:
        raise OtherProcessFailed("; ".join(failed))
    return result


def require_same(facts: Mapping[str, str]) -> None:
    """Check that all processes have the same value for each of some facts.

    Raises:
        Diverged, OtherProcessFailed: Names the facts that differ, and their values.
    """
    firsts = on_primary(lambda: dict(facts))

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

    on_all(compare)


@contextlib.contextmanager
def only_primary_prints() -> Iterator[None]:
    """Discard the standard output of all processes but the first; stderr is left alone."""
    if is_primary():
        yield
        return
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def progress(title: str, total: int, done: int = 0) -> tqdm:
    """Make a progress bar, which only the first process shows."""
    return tqdm(total=total, initial=done, desc=title, unit="", disable=not is_primary())


def to_host(tree: Any) -> Any:
    """Gather a pytree of global arrays as numpy arrays in every process; all must call it."""
    import jax
    import numpy as np
    from jax.experimental import multihost_utils

    def whole(array: jax.Array) -> np.ndarray:
        if array.is_fully_addressable or array.is_fully_replicated:
            return np.asarray(array)
        return multihost_utils.process_allgather(array, tiled=True)

    return jax.tree.map(whole, tree)


def to_devices(tree: Any, shardings: Any) -> Any:
    """Place a pytree of host arrays, equal in every process, as global arrays."""
    import jax
    import numpy as np

    def place(array: Any, sharding: jax.sharding.Sharding) -> jax.Array:
        host = np.asarray(array)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    return jax.tree.map(place, tree, shardings)


def _client() -> Any:
    # This client is not public, but there is no other way to wait on the host: `multihost_utils`
    # waits on the devices, which keeps them busy and times out after minutes on some of them.
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
