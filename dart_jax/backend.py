"""The devices that jax found: told when a command begins, and compared with those asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

_GIB = 2**30

_ON_PURPOSE = "or set JAX_PLATFORMS=cpu to compute on the CPU on purpose"
_NO_PLUGIN = (
    "jax has no CUDA here: run `ACCELERATOR=cuda bash launch/setup.sh`, or for an environment of "
    "your own `pip install '.[cuda13]'`"
)
_NO_GPU = (
    "see whether `nvidia-smi` shows a card and which driver; one too old for CUDA 13 may do for "
    "CUDA 12: remove .venv, then ACCELERATOR=cuda12 bash launch/setup.sh"
)
_NO_TPU = "see whether another process holds the TPU, and whether this host has one"


class WrongDevices(RuntimeError):
    """An accelerator was asked for, and jax found none; says what to do."""


@dataclass(frozen=True)
class Hardware:
    """The devices of all processes.

    Attributes:
        platform: `cpu`, `gpu` or `tpu`.
        kind: Name of a device, such as `NVIDIA H100 80GB HBM3`.
        count: Number of devices.
        memory: Bytes that programs may use of one; None where it is not known, as on a CPU.
    """

    platform: str
    kind: str
    count: int
    memory: int | None

    def __str__(self) -> str:
        of_each = "" if self.memory is None else f", {self.memory / _GIB:.1f} GiB each"
        return f"{self.platform}, {self.count} x {self.kind}{of_each}"


def hardware() -> Hardware:
    """Ask jax for its devices; every process of a job has to call this."""
    import jax

    devices = jax.devices()
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    limits = [each.get("bytes_limit") for each in stats]
    # What fits the smallest fits all.
    memory = None if None in limits else min(limits)
    return Hardware(devices[0].platform, devices[0].device_kind, len(devices), memory)


def tell_hardware() -> Hardware:
    """Print the devices that a command will compute on, and return them; all processes call it.

    Raises:
        WrongDevices: As `check_accelerator`.
    """
    found = hardware()
    print(f"devices: {found}", flush=True)
    check_accelerator(found.platform, os.environ, Path(sys.prefix))
    return found


def check_accelerator(platform: str, variables: Mapping[str, str], environment: Path) -> None:
    """Check that jax did not fall back to the CPU: it does so with a warning that is easily missed.

    Args:
        platform: The platform that jax chose.
        variables: ACCELERATOR says what is asked for, JAX_PLATFORMS=cpu asks for the CPU.
        environment: Python's prefix, in which launch/setup.sh has left what it was made for.

    Raises:
        WrongDevices: An accelerator is asked for, and there is only the CPU.
    """
    made_for = environment / ".accelerator"
    asked = variables.get("ACCELERATOR", "")
    said = f"ACCELERATOR={asked}"
    if not asked and made_for.is_file():
        asked = made_for.read_text("utf-8").strip()
        said = f"{environment} was made with ACCELERATOR={asked}"

    on_purpose = variables.get("JAX_PLATFORMS", "").split(",")[0] == "cpu"
    if platform != "cpu" or asked in ("", "cpu") or on_purpose:
        return
    raise WrongDevices(f"{said}, but jax found only a CPU: {_advice(asked)}; {_ON_PURPOSE}")


def _advice(asked: str) -> str:
    if asked == "tpu":
        return _NO_TPU
    has_plugin = any(find_spec(f"jax_{name}_plugin") for name in ("cuda13", "cuda12"))
    return _NO_GPU if has_plugin else _NO_PLUGIN
