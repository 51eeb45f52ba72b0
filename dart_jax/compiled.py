"""Compiled programs are kept between runs, as compiling is a large part of a short one.

Variables of jax change it: JAX_COMPILATION_CACHE_DIR names another folder,
JAX_COMPILATION_CACHE_MAX_SIZE another bound in bytes (-1: none), and
JAX_ENABLE_COMPILATION_CACHE=false keeps nothing.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path

from dart_jax.machine import instruction_set, user_cache
from dart_jax.processes import process_count
from dart_jax.records import digest

_MAX_BYTES = 4 * 2**30
# A program that is being written has no time stamp for a moment.
_WRITING_SECONDS = 60


def keep_compiled(runs: Path) -> None:
    """Have jax keep programs in the user's cache, and drop the least recently used beyond 4 GiB.

    Where a job has several processes, of which the first alone writes programs and all read them,
    it is the folder of runs, which all hosts see, without a bound.
    """
    import jax

    if os.environ.get("JAX_COMPILATION_CACHE_DIR") or not jax.config.jax_enable_compilation_cache:
        return
    several = process_count() > 1
    # Programs for a CPU use its instructions, and machines of several kinds may share a home.
    alone = user_cache("compiled") / digest(instruction_set())[:8]
    folder = (runs / ".jax_cache").resolve() if several else alone
    if not _is_writable(folder):
        return

    jax.config.update("jax_compilation_cache_dir", str(folder))
    if not several and "JAX_COMPILATION_CACHE_MAX_SIZE" not in os.environ:
        _drop_incomplete(folder)
        jax.config.update("jax_compilation_cache_max_size", _MAX_BYTES)


def _is_writable(folder: Path) -> bool:
    """Make the folder; where that fails, say that programs are compiled again at each start."""
    problem = "it cannot be written to"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        problem = error.strerror
    if os.access(folder, os.W_OK):
        return True
    print(
        f"warning: compiled programs are not kept, {folder}: {problem}; set "
        "JAX_COMPILATION_CACHE_DIR to a folder for them",
        file=sys.stderr,
    )
    return False


def _drop_incomplete(folder: Path) -> None:
    """Remove programs that a killed process has not stored whole.

    jax would neither use nor replace them, and with a bound on the size stop storing others.
    """
    stamped = {path.name.removesuffix("-atime") for path in folder.glob("*-atime")}
    for program in folder.glob("*-cache"):
        if program.name.removesuffix("-cache") in stamped or not stamped:
            continue
        # Another process may drop it at the same time.
        with suppress(FileNotFoundError):
            if time.time() - program.stat().st_mtime > _WRITING_SECONDS:
                program.unlink()
