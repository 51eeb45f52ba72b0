"""Add up what the configured scorers would download, without loading them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dart_jax.audit.config import AuditConfig
from dart_jax.audit.scorer_protocol import ScorerUnavailable
from dart_jax.audit.scorers import scorer_specs
from dart_jax.data.download import size_at
from dart_jax.extras import need
from dart_jax.model.hub import bytes_to_download, is_hub_name

# What transformers loads a classifier from; of two forms of weights the first one that is there.
_TEXTS = (".json", ".txt", ".model")
_WEIGHTS = (("model", ".safetensors"), ("pytorch_model", ".bin"))


def scorer_downloads(config: AuditConfig) -> dict[str, int | None]:
    """List the models that loading the scorers takes from the network, with their bytes to come.

    The size is 0 for one that is in its cache, and None where a server does not say. Files of this
    machine are left out, and so is Detoxify's tokenizer, less than a megabyte.

    Raises:
        MissingExtra: A package is missing.
        ScorerUnavailable: The hub does not give a model, or Detoxify has no such variant.
        BadDownload: The server of Detoxify's checkpoints does not answer.
    """
    sizes: dict[str, int | None] = {}
    for kind, models, _ in scorer_specs(config):
        if kind == "detoxify":
            for variant in models or ("original",):
                if not Path(variant).is_file():
                    sizes[f"detoxify:{variant}"] = _bytes_of_variant(variant)
        elif kind == "hf":
            for name in models:
                if not Path(name).is_dir():
                    sizes[name] = _bytes_of_classifier(name)
        elif kind == "llama_guard":
            for name in models:
                if is_hub_name(name) and not Path(name).exists():
                    sizes[name] = bytes_to_download(name)
    return sizes


def _bytes_of_variant(variant: str) -> int | None:
    need("classifiers", ("torch", "detoxify"), "audit.scorer detoxify")
    import torch
    from detoxify import detoxify as library

    url = library.MODEL_URLS.get(variant)
    if url is None:
        raise ScorerUnavailable(
            f"audit.scorer_models: {variant} is neither a file nor one of Detoxify's variants: "
            f"{', '.join(library.MODEL_URLS)}"
        )
    is_cached = Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2]).is_file()
    return 0 if is_cached else size_at(url)


def _bytes_of_classifier(name: str) -> int:
    from huggingface_hub import snapshot_download

    try:
        files = snapshot_download(name, dry_run=True)
    except OSError as error:
        raise ScorerUnavailable(
            f"audit.scorer_models: the hub does not give {name}: {error}"
        ) from error
    return sum(file.file_size or 0 for file in _loaded(files) if file.will_download)


def _loaded(files: list[Any]) -> list[Any]:
    """Pick the files that transformers loads out of those of a repository."""
    texts = [file for file in files if file.filename.endswith(_TEXTS)]
    for start, end in _WEIGHTS:
        weights = [f for f in files if f.filename.startswith(start) and f.filename.endswith(end)]
        if weights:
            return texts + weights
    return texts
