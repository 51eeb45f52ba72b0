"""The peer's device: set up, described, waited for, measured."""

from __future__ import annotations

import os
import time
from typing import Any


def start_torch(seed: int) -> Any:
    """One thread a core, and the device: the GPU if torch sees one, else the CPU."""
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(seed)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def describe_device(device: Any) -> dict[str, Any]:
    """Device and threads, as every session's description has them."""
    import torch

    return {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "platform": device.type,
        "threads": torch.get_num_threads(),
    }


def synchronize(device: Any) -> None:
    """Wait for the device's work."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize()


def peak_device_bytes(device: Any) -> int | None:
    """Largest memory of the GPU so far; None on a CPU."""
    import torch

    return torch.cuda.max_memory_allocated() if device.type == "cuda" else None


def matmul_rate(device: Any, dtype: Any) -> float:
    """See `bench.job.Session`."""
    import torch

    size = 1024 if device.type == "cpu" else 8192
    square = torch.ones(size, size, dtype=dtype, device=device)
    square @ square
    synchronize(device)
    started = time.perf_counter()
    for _ in range(8):
        square @ square
    synchronize(device)
    return 8 * 2 * size**3 / (time.perf_counter() - started)
