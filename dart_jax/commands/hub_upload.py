"""Upload an exported folder to the Hugging Face hub, for `export --push OWNER/NAME`.

The token is huggingface_hub's own: HF_TOKEN, or that of `hf auth login`. It is in no message.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dart_jax.settings import BadSetting

if TYPE_CHECKING:
    from huggingface_hub import HfApi

# Of an earlier upload, in the commit of the new one: a shard or the mark of another export would be
# read as a part of this one. Everything else in the repository stays.
_REPLACED = ["*.safetensors", "*.json", "*.jinja"]


class UploadFailed(RuntimeError):
    """The hub did not take an export; the message says what to do."""


def check_name(name: str) -> None:
    """Raise BadSetting for a name that is not OWNER/NAME, as the hub has it."""
    # Imported here, so that --help does not wait for it.
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    problem = ""
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        problem = f" ({error})"
    if problem or name.count("/") != 1:
        raise BadSetting(f"--push {name}: give a repository as OWNER/NAME{problem}")


def check_token() -> None:
    """Raise UploadFailed where huggingface_hub finds no token."""
    from huggingface_hub import get_token

    if get_token() is None:
        raise UploadFailed(
            "--push: there is no token; set HF_TOKEN to one that may write, or run `hf auth "
            "login` (--push-dry-run needs none)"
        )


def listing(folder: Path, name: str, public: bool) -> str:
    """List an upload: the repository, who will see it, and each file with its size."""
    sizes = {path.name: path.stat().st_size for path in _files(folder)}
    seen_by = "public" if public else "private"
    lines = [f"{name} ({seen_by}), {len(sizes)} files, {sum(sizes.values()):,} bytes:"]
    lines += [f"  {size:>15,}  {file}" for file, size in sizes.items()]
    return "\n".join(lines)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file())


def upload(folder: Path, name: str, public: bool, api: HfApi | None = None) -> str:
    """Make the repository, if there is none, and commit the folder's files to it.

    Args:
        api: By default that of huggingface_hub's settings (HF_ENDPOINT).

    Returns:
        The repository's address.

    Raises:
        UploadFailed: There is no access, no connection, or a repository that others see otherwise
            than was asked for.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError

    api = api or HfApi()
    try:
        address = api.create_repo(name, private=not public, exist_ok=True)
        # One that was there already keeps its visibility.
        _check_visibility(name, api.model_info(name).private, public)
        api.upload_folder(
            repo_id=name,
            folder_path=folder,
            allow_patterns=[path.name for path in _files(folder)],
            delete_patterns=_REPLACED,
            commit_message="Export of dart_jax",
        )
    # The library's errors are one or the other; offline, it raises a ConnectionError.
    except (OSError, HTTPError) as error:
        refused = getattr(error, "response", None) is not None and error.response.status_code
        why = ": the token may not write there" if refused in (401, 403) else ""
        raise UploadFailed(
            f"--push {name}: {_first_line(error)}{why}; the export is whole in {folder}. When that "
            f"is mended, `hf upload {name} {folder}` sends it, or the same command with --overwrite"
        ) from error
    return str(address)


def _check_visibility(name: str, private: bool | None, public: bool) -> None:
    if private and public:
        raise UploadFailed(
            f"--push {name}: it exists and is private; make it public in its settings on the hub, "
            "or leave --public out"
        )
    if not private and not public:
        raise UploadFailed(
            f"--push {name}: it exists and everybody can see it; add --public if that is meant, or "
            "give another name. Nothing was uploaded"
        )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
