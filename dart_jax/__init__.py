"""DART (Distill-Audit-Repair Training, arXiv 2604.16845) in JAX."""

__version__ = "0.1.0"
