"""End every command: with its exit status, and words for why it cannot go on."""

import os
import select
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dart_jax import processes
from dart_jax.settings import BadSetting

# Errors whose message tells the user what to do; DART_JAX_TRACEBACK=1 raises them.
MENDABLE = (ValueError, ArithmeticError, RuntimeError, OSError, sqlite3.DatabaseError)
GOES_ON = "stopped; the same command goes on from here"
# As a shell reports a process that SIGPIPE has ended.
NOBODY_READS = 128 + signal.SIGPIPE


class Stopped(RuntimeError):
    """Work ended in good order before it was done, for the reason that the message gives."""


def exit_status(main: Callable[[], int], stopped: str = GOES_ON) -> int:
    """`main` for a shell: an error that the user can mend is a message, not a traceback.

    Args:
        stopped: What Ctrl-C means for the work; '' says nothing.

    Returns:
        What `main` returns; 2 for a mistake in a setting, 1 for another error, 130 after Ctrl-C,
        141 where the output is a pipe that nobody reads any more (`| head`).
    """
    try:
        status = main()
        # Flushed here, where a reader that has gone still decides the status.
        sys.stdout.flush()
        return status
    except BrokenPipeError as error:
        # Another pipe or a socket may have broken, and that is an error.
        if not _nobody_reads():
            return _fail(error)
        return NOBODY_READS
    # Before MENDABLE, which has it as a RuntimeError: a run that stopped in order has no error.
    except Stopped as reason:
        print(f"stopped: {reason}", file=sys.stderr)
        return 1
    except MENDABLE as error:
        return _fail(error)
    except KeyboardInterrupt:
        if stopped:
            print(f"\n{stopped}", file=sys.stderr)
        return 130


def _fail(error: Exception) -> int:
    if os.environ.get("DART_JAX_TRACEBACK"):
        raise error
    who = _process()
    if isinstance(error, BadSetting):
        print(f"{who}error: {error}", file=sys.stderr)
        return 2
    print(f"{who}error: {error_message(error)}", file=sys.stderr)
    print("(DART_JAX_TRACEBACK=1 shows where)", file=sys.stderr)
    return 1


def _process() -> str:
    """Which process of several has the error; jax is not loaded to find out that there is one."""
    if "jax" not in sys.modules or processes.process_count() == 1:
        return ""
    return f"process {processes.process_index()}: "


def error_message(error: Exception) -> str:
    """Put an error in words; one of the system's with the file that it is about."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give an error of a write, such as that of a full disk, the name of the file."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def _nobody_reads() -> bool:
    """Tell whether standard output is a pipe without a reader; what it holds is then dropped."""
    output = select.poll()
    # POLLERR is told without being asked for.
    output.register(sys.stdout.fileno(), 0)
    if not any(event & select.POLLERR for _, event in output.poll(0)):
        return False
    # Python flushes once more when it ends, and would complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True
