"""Download public files by their address: resumed, and checked before they get their names."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from dart_jax.cli import naming

_PATIENCE_SECONDS = 60


class BadDownload(RuntimeError):
    """A file could not be had, or is not the published one; says what to do."""


@dataclass(frozen=True)
class PublicFile:
    """A file as it was published.

    Attributes:
        size: In bytes; None where it is not known.
        digest: `sha256:` and the SHA-256 of the content, or `git:` and the id that git gives it.
    """

    url: str
    size: int | None
    digest: str


def download(file: PublicFile, target: Path) -> None:
    """Download a file to `target`, which is there when all of it has come and is right.

    What has come of an interrupted download lies beside it, as `NAME.part`, and the next one goes
    on from its end.

    Raises:
        BadDownload: The address does not answer, does not have the file, broke off, or gave
            another one.
        OSError: The file cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    _receive(file.url, part)

    if not is_published(part, file):
        size = part.stat().st_size
        # Left there, it would be what the next attempt goes on from.
        part.unlink()
        raise BadDownload(
            f"{file.url}: what came ({size:,} bytes) is not the published file, whose checksum is "
            f"{file.digest}; it was removed. Try again, or get the file elsewhere and put it to "
            f"{target}"
        )
    os.replace(part, target)


def is_published(path: Path, file: PublicFile) -> bool:
    """Tell whether a file on this machine has the content that was published."""
    kind, _, expected = file.digest.partition(":")
    content = hashlib.sha256() if kind == "sha256" else hashlib.sha1()
    if kind == "git":  # which hashes a header, too
        content.update(f"blob {path.stat().st_size}\0".encode())

    with open(path, "rb") as opened:
        while piece := opened.read(2**20):
            content.update(piece)
    return content.hexdigest() == expected


def size_at(url: str) -> int | None:
    """Ask a server for a file's size in bytes; None where it does not say.

    Raises:
        BadDownload: The address does not answer, or does not have the file.
    """
    with _open(Request(url, method="HEAD")) as response:
        length = response.headers["Content-Length"]  # `response.length` is that of no body
    return None if length is None else int(length)


def _receive(url: str, part: Path) -> None:
    """Append what is missing of a file; write it anew where the server gives all of it only."""
    begun = part.stat().st_size if part.exists() else 0
    request = Request(url, headers={"Range": f"bytes={begun}-"} if begun else {})
    try:
        response = _open(request)
    except BadDownload as error:
        # There is nothing after its end: the part is the whole file, or one of another size.
        if begun and isinstance(error.__cause__, HTTPError) and error.__cause__.code == 416:
            return
        raise

    with response, naming(part):
        is_rest = response.status == 206
        expected = response.length
        with open(part, "ab" if is_rest else "wb") as out:
            before = out.tell()
            try:
                shutil.copyfileobj(response, out, 2**20)
            except (ConnectionError, TimeoutError, HTTPException) as error:
                raise _broken_off(url, out.tell(), str(error)) from error
            received = out.tell() - before

    # A connection that is closed early reads like the end of the file.
    if expected is not None and received < expected:
        raise _broken_off(url, before + received, f"{before + expected:,} were promised")


def _broken_off(url: str, size: int, why: str) -> BadDownload:
    return BadDownload(
        f"{url} broke off after {size:,} bytes ({why}); the same command goes on from there"
    )


def _open(request: Request) -> HTTPResponse:
    url = request.full_url
    try:
        return urlopen(request, timeout=_PATIENCE_SECONDS)
    except HTTPError as error:
        raise BadDownload(
            f"{url}: the server says {error.code} {error.reason}; the file may have moved"
        ) from error
    except (URLError, ConnectionError, TimeoutError) as error:
        reason = getattr(error, "reason", error)
        raise BadDownload(
            f"{url} cannot be reached ({reason}); run this on a machine with a network"
        ) from error
