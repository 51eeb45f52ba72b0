"""Content of the configured scorers: an input of every stage that uses scores.

The settings name local scorers by path, and another classifier may lie there tomorrow.
"""

from __future__ import annotations

import pickle
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dart_jax.audit.config import AuditConfig
from dart_jax.audit.scorers import scorer_specs
from dart_jax.extras import need
from dart_jax.model.identity import checkpoint_identity


def scorer_contents(config: AuditConfig) -> dict[str, Any]:
    """Identify each local classifier by its content, and other scorers by their package's version.

    A classifier on the hub, or a variant of Detoxify, is identified by its name alone, which the
    settings hold: its content is known only after the download.
    """
    contents: dict[str, Any] = {}
    for kind, models, _ in scorer_specs(config):
        if kind == "profanity":
            contents[kind] = _package_version("alt-profanity-check")
        for name in models:
            path = Path(name)
            if path.is_dir() or (kind in ("detoxify", "llama_guard") and path.is_file()):
                contents[name] = checkpoint_identity(path)
            if kind == "detoxify" and path.is_file():
                contents[name] |= _detoxify_base(path)

    return contents


def _detoxify_base(checkpoint: Path) -> dict[str, str]:
    """Identify configuration and tokenizer of the folder that a Detoxify checkpoint names."""
    need("classifiers", ("torch",), "audit.scorer detoxify")
    import torch

    try:
        # Mapped: one name is wanted, and the weights need not be read for it.
        loaded = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
        base = Path(loaded["config"]["arch"]["args"]["model_type"])
    except (pickle.UnpicklingError, OSError, EOFError, RuntimeError, KeyError, TypeError):
        return {}  # not a Detoxify checkpoint: the scorer says so when it is loaded

    if not base.is_dir():
        return {}

    parts = checkpoint_identity(base)
    parts.pop("weights", None)  # the checkpoint's own weights are used instead

    return parts


def _package_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
