"""DART (Distill-Audit-Repair Training, arXiv 2604.16845) in JAX."""

import sys

__version__ = "0.1.0"

if sys.platform == "win32":
    raise ImportError("dart_jax needs Linux or macOS; on Windows, install and run it in WSL")
