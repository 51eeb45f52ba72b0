"""What a benchmark against Hugging Face libraries needs, and how it is asked for."""

from __future__ import annotations

import argparse
import importlib.util

PACKAGES = ("torch", "transformers", "peft")


def require_peer() -> None:
    """Raises RuntimeError with what is not installed."""
    absent = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if absent:
        raise RuntimeError(
            f"--peer hf needs {', '.join(absent)}, which this environment lacks; "
            f"run `pip install {' '.join(absent)}` in the versions of requirements.txt"
        )


def positive(text: str) -> int:
    """A number of things on the command line."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value}; it must be at least 1")
    return value
