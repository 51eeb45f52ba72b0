"""Move a stage's earlier files out of the way of its next start, instead of deleting them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path


def set_aside(
    root: Path, stage: str, files: Sequence[str], manifest: str, kept: Sequence[str] = ()
) -> Path | None:
    """Move a stage's files to `<stage>.old`, replacing those that were set aside there before.

    Files of an unfinished stage go to `<stage>.unfinished`, so that half a result never replaces a
    whole one. All are gathered in `.<stage>.old` first: after a crash in between, the next call
    adds the rest, and the files that were set aside before are deleted only when all are there.

    Args:
        root: The run's folder.
        files: Files and folders, relative to the run's folder, without the manifest.
        manifest: The file that marks the stage as finished; it moves first.
        kept: Files that stay where they are.

    Returns:
        The folder with the files; None where there were none.
    """
    gathered = root / f".{stage}.old"
    stays = [root / name for name in kept]
    # The manifest first: no crash may leave a stage finished whose files have moved.
    for name in (manifest, *files):
        move(root / name, gathered / name, stays)

    if not gathered.exists():
        return None

    # Looked for where it went: a call after a crash finds it there, and in its place no more.
    finished = (gathered / manifest).exists()
    target = root / (f"{stage}.old" if finished else f"{stage}.unfinished")
    remove(target)
    shutil.move(gathered, target)
    return target


def move(source: Path, target: Path, kept: Sequence[Path] = ()) -> None:
    """Move a file or folder, if it exists; merge a folder into one that is already there.

    Args:
        kept: Files that stay where they are, with their folders.
    """
    if source in kept or not source.exists():
        return
    holds_kept = any(file.is_relative_to(source) for file in kept)
    if source.is_dir() and (holds_kept or target.exists()):
        # A list, since the folder empties on the way.
        for inner in list(source.iterdir()):
            move(inner, target / inner.name, kept)
        if not any(source.iterdir()):
            source.rmdir()
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(source, target)


def remove(path: Path) -> None:
    """Delete a file or folder, if it exists."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
