"""Moving what a stage left out of the way of its next start, instead of deleting it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path


def set_aside(
    root: Path, stage: str, files: Sequence[str], manifest: str, kept: Sequence[str] = ()
) -> Path | None:
    """Move a stage's files to `<stage>.old`, in the place of what was set aside there before.

    Where the stage was not finished they go to `<stage>.unfinished`, so that half a result never
    takes the place of a whole one. They are gathered in `.<stage>.old` first: a crash in between
    leaves a part of them there, to which the next call adds the rest, and what was set aside
    before is deleted when all are there.

    Args:
        root: The run's folder.
        files: Files and folders, relative to it, the manifest not among them.
        manifest: The file that makes the stage a finished one; it moves first.
        kept: Files that stay where they are.

    Returns:
        The folder with the files; None where there were none.
    """
    gathered = root / f".{stage}.old"
    stays = [root / name for name in kept]
    for name in (manifest, *files):
        move(root / name, gathered / name, stays)
    if not gathered.exists():
        return None
    finished = (gathered / manifest).exists()
    target = root / (f"{stage}.old" if finished else f"{stage}.unfinished")
    remove(target)
    shutil.move(gathered, target)
    return target


def move(source: Path, target: Path, kept: Sequence[Path] = ()) -> None:
    """Move a file or folder, if it is there; into a folder that is there already, its contents.

    Args:
        kept: Files that stay, with their folders.
    """
    if source in kept or not source.exists():
        return
    holds_kept = any(file.is_relative_to(source) for file in kept)
    if source.is_dir() and (holds_kept or target.exists()):
        for inner in list(source.iterdir()):
            move(inner, target / inner.name, kept)
        if not any(source.iterdir()):
            source.rmdir()
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(source, target)


def remove(path: Path) -> None:
    """Delete a file or folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
