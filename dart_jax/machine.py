"""The machine: where a measurement was made, and the folder for what is kept on it."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# What a measurement of ours depends on.
OURS = ("jax", "jaxlib", "flax", "optax", "numpy")


def machine() -> dict[str, Any]:
    """Processor, cores that this process may use, memory, how busy the machine is now, the day.

    The day is what a chat template that asks for it has written into the prompts.
    """
    return {
        "date": datetime.date.today().isoformat(),
        "processor": _processor(),
        "cores": cores(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "platform": platform.platform(),
        "load_average": round(os.getloadavg()[0], 2),
    }


def cores() -> int:
    """Count the cores that this process may use; macOS does not say, and all are counted there."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Of python and these packages."""
    found = {name: importlib.metadata.version(name) for name in packages}
    return {"python": platform.python_version(), **found}


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def instruction_set() -> str:
    """Name the instructions of this processor, as Linux lists them; elsewhere its architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            # "Features" on ARM.
            if line.startswith(("flags", "Features")):
                return line.partition(":")[2].strip()
    return platform.machine()


def user_cache(name: str) -> Path:
    """Return the folder of the user's cache for one kind of file: `$XDG_CACHE_HOME/dart_jax/name`.

    The default is `~/.cache`; a relative path counts as none, as the XDG specification asks.
    """
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    folder = given if given.is_absolute() else Path.home() / ".cache"
    return folder / "dart_jax" / name
