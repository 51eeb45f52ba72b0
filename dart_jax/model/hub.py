"""Find a model by its name on the Hugging Face hub: in the local cache, or by download.

The token of a gated model comes from the environment (`HF_TOKEN`) or from `hf auth login`, the
cache's place from `HF_HOME`; both are huggingface_hub's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dart_jax.model.safetensors_file import INDEX_FILE, safetensors_source
from dart_jax.model.weights import BadCheckpoint

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# Repositories of Llama hold the weights a second time, in a form of Meta's own.
_FILES = (
    "config.json",
    "*.safetensors",
    INDEX_FILE,
    "tokenizer*",
    "special_tok*",
    "chat_template*",
)
# Repositories of Mistral hold the weights a second time, too.
_SECOND = ("consolidated*",)


def is_hub_name(path: str) -> bool:
    """Tell whether a path is of the form `owner/name`, and not that of a GGUF file."""
    return _NAME.fullmatch(path) is not None and not path.endswith(".gguf")


def hub_folder(name: str) -> Path:
    """Return the folder of a model in the hub's cache, downloading what is missing.

    A complete copy in the cache is taken as it is, without asking the hub: what is there under the
    name may change between two starts of a run.

    Raises:
        FileNotFoundError: The model cannot be had; says what to accept, to set, or to copy.
    """
    from huggingface_hub.constants import HF_HUB_CACHE

    cached = _cached(name)
    if cached is not None:
        return cached

    print(f"downloading {name} into {HF_HUB_CACHE}", flush=True)
    with _saying_what_to_do(name):
        downloaded = Path(_snapshot(name))
        # Without a network the library takes whatever the cache has.
        if not _is_complete(downloaded):
            raise FileNotFoundError(f"{downloaded} is not whole")
    return downloaded


def bytes_to_download(name: str) -> int:
    """Ask the hub how many bytes of a model are not in the cache; 0 for a complete copy.

    Raises:
        FileNotFoundError: As `hub_folder`.
    """
    if _cached(name) is not None:
        return 0
    with _saying_what_to_do(name):
        files = _snapshot(name, dry_run=True)
    return sum(file.file_size or 0 for file in files if file.will_download)


def _cached(name: str) -> Path | None:
    """Find a complete copy in the cache."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(_snapshot(name, local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    return folder if _is_complete(folder) else None


def _snapshot(name: str, **options: bool) -> Any:
    from huggingface_hub import snapshot_download

    return snapshot_download(name, allow_patterns=_FILES, ignore_patterns=_SECOND, **options)


@contextmanager
def _saying_what_to_do(name: str) -> Iterator[None]:
    """Turn what the hub refuses into FileNotFoundError with a sentence for the user."""
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        yield
    except GatedRepoError as error:  # a RepositoryNotFoundError, too
        raise FileNotFoundError(
            f"model.path: {name} is gated: accept its licence at https://huggingface.co/{name}, "
            "and set HF_TOKEN to a token of the same account"
        ) from error
    except RepositoryNotFoundError as error:
        raise FileNotFoundError(
            f"model.path: {name} is no folder here, and the hub has no such model that you may "
            "see; for a private one set HF_TOKEN"
        ) from error
    except OSError as error:
        raise FileNotFoundError(
            f"model.path: {name} is no folder here and not whole in the hub's cache, and the hub "
            f"did not give it ({error}); on a machine with a network run `dart-jax fetch --to DIR` "
            f"with the same settings, or `hf download {name}`, whose folder "
            f"models--{name.replace('/', '--')} belongs into {HF_HUB_CACHE}"
        ) from error


def _is_complete(folder: Path) -> bool:
    """Tell whether a cached copy has its configuration and its weights.

    A download that was interrupted leaves a copy that the library takes for one to use.
    """
    try:
        safetensors_source(folder)
    except (FileNotFoundError, BadCheckpoint):
        return False
    return (folder / "config.json").exists()
