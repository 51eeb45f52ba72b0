"""The files of the difference-awareness suite, as its authors' repository has them."""

from __future__ import annotations

from pathlib import Path

from dart_jax.data.benchmarks import BENCHMARKS
from dart_jax.data.difference_awareness import present_files
from dart_jax.data.download import BadDownload, PublicFile, is_published

# A commit and no branch: the checksums below are those of its files.
FOLDER_URL = (
    "https://raw.githubusercontent.com/Angelina-Wang/difference_awareness/"
    "2349531cafee07ea58a3e7e95827e8ad5f1a1a91/benchmark_suite"
)

# Bytes and checksum. Of N1 no copy was at hand: git's id of it is that of the repository's tree.
_PUBLISHED = {
    "D1": (506357, "sha256:465f85a31d54093cb8562c72e3a3ace4180c1b21ed7ad6ba9eadf53cd07f4a73"),
    "D2": (505179, "sha256:2ab788d3def87a24d5e117720bcbf0165644fcc4b6a604a05ddbd1b71ab46bb8"),
    "D3": (853815, "sha256:47eae8e6b3bc1b4b23647a42e483c5d7f80cd3b49c4170cf3d91e603ea42b44c"),
    "D4": (449173, "sha256:dc588bd902380249dc96ecce71f350fd013adb9ee2d7d5372f445a8041d1d073"),
    "N1": (None, "git:dd9ea776294795db39495f8e0fefe8df106c8cfc"),
    "N2": (2701335, "sha256:556056bb77d0710758b8790cbaa012f18e8cf072c88b0f5eecba90473f9885d9"),
    "N3": (485907, "sha256:abfbdc3cec76a35e1c015a3b57f68ddbfac7c527f4be816ee439a217d90786c1"),
    "N4": (824437, "sha256:f16a932b5ea96fa75a91b64f4167980f960802bda8ee30fe233187c5f2e8828d"),
}


def published(benchmark: str) -> PublicFile:
    """Say where a benchmark's file is, and what is in it."""
    size, digest = _PUBLISHED[benchmark]
    return PublicFile(f"{FOLDER_URL}/{benchmark}_1k.pkl", size, digest)


def files_to_fetch(folder: Path) -> dict[Path, PublicFile]:
    """List the suite's files that a folder lacks, by the path that each is to have.

    Raises:
        BadDownload: A file of the folder has a published name and another content.
    """
    wanted = {}
    for benchmark in BENCHMARKS:
        file = published(benchmark)
        present = present_files(folder, benchmark)
        if not present:
            wanted[folder / f"{benchmark}_1k.pkl"] = file
        # The JSONL form was not published: there is nothing to compare it with.
        elif present[0].suffix == ".pkl" and not is_published(present[0], file):
            raise BadDownload(
                f"{present[0]} is not the published file, whose checksum is {file.digest}; move "
                "it away, and the same command fetches it"
            )
    return wanted
