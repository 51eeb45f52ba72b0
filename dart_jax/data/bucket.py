"""Files and folders of a bucket (`gs://...`), copied to this machine once.

Any address that fsspec knows will do; for `gs://` it needs the package gcsfs. Copies lie in
`$XDG_CACHE_HOME/dart_jax/buckets/` (default `~/.cache`), each in a folder that is named after the
address and the versions of its files: what has changed in the bucket is copied anew.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path, PurePosixPath
from typing import Any

from dart_jax.machine import user_cache


def is_address(path: str) -> bool:
    """Tell whether a setting names something in a bucket, and not a path of this machine."""
    return "://" in path


def local_copy(address: str, setting: str) -> Path:
    """Copy a file or a folder out of a bucket, unless its copy is here; return the copy's path.

    Files that have come whole are not copied again after an interruption.

    Args:
        setting: What the address was given for, such as `model.path`; for messages.

    Raises:
        FileNotFoundError: There is nothing at the address; or the package that reads it is missing
            (says what to install).
        OSError: The bucket cannot be read, or the copy cannot be written.
    """
    system, root = _opened(address, setting)
    files = system.find(root, detail=True)
    if not files:
        raise FileNotFoundError(f"{setting}: there is nothing at {address}")

    versions = hashlib.sha256(address.encode())
    for path in sorted(files):
        versions.update(f"\0{path}\0{system.checksum(path)}".encode())
    copy = user_cache("buckets") / versions.hexdigest()[:32] / PurePosixPath(root).name

    missing = {}
    for path, info in files.items():
        # A folder's files keep their places in it; a file alone is its own root.
        target = copy if path == root else copy / PurePosixPath(path).relative_to(root)
        if not target.exists():
            missing[path] = (target, info["size"])
    if missing:
        size = sum(size for _, size in missing.values())
        print(f"copying {address} to {copy}: {size / 1e9:.2f} GB", flush=True)
    for path, (target, _) in missing.items():
        _copy_file(system, path, target)
    return copy


def _opened(address: str, setting: str) -> tuple[Any, str]:
    """Find the file system of an address, and the path in it."""
    import fsspec

    try:
        system, root = fsspec.core.url_to_fs(address)
    except ImportError as error:
        package = "gcsfs" if address.startswith(("gs://", "gcs://")) else str(error)
        raise FileNotFoundError(
            f"{setting}: {address} is read with a package that is not installed: pip install "
            f"{package}; or copy it to this machine, or mount the bucket"
        ) from error
    except ValueError as error:
        raise FileNotFoundError(f"{setting}: {address}: {error}") from error
    return system, root.rstrip("/")


def _copy_file(system: Any, path: str, target: Path) -> None:
    """Copy one file; it gets its name when it is whole, whoever else copies it beside us."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.{secrets.token_hex(8)}.part")
    try:
        system.get_file(path, str(part))
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
