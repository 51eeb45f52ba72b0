"""The folder of one run: stages, the inputs that they were run on, and the files that they made.

    runs/<name>/
      config.yaml            the resolved configuration
      versions.json          packages and platform
      stages/<stage>.json    inputs, outputs with their hashes, seconds: written when a stage ends
      stages/<stage>.begun   the inputs of a stage that has begun
      <stage>.old/           the files of the last finished run of a stage that was begun anew
      <stage>.unfinished/    the files of an unfinished run of it

A stage runs unless its manifest names the same inputs and the hashes of its outputs still match.
A stage that was interrupted continues from its partial files if its inputs are unchanged.
Otherwise it begins anew, and none of its earlier files are deleted: they and the manifest that
names their inputs move to `<stage>.old` under the names that they have in the run, or to
`<stage>.unfinished` if the stage had not ended. One generation of each is kept; it is deleted when
the next one moves there, after everything that can be checked beforehand has been checked.

In a job of several processes the first one writes these files; see `processes.on_primary`.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from dart_jax.append_only import append_jsonl, resume_jsonl
from dart_jax.changes import describe_changes
from dart_jax.processes import is_primary, on_all, on_primary, process_count
from dart_jax.records import digest, write_jsonl, write_text
from dart_jax.set_aside import remove, set_aside
from dart_jax.settings import BadSetting, Name, Seed, check_fields

R = TypeVar("R")

# A network file system may show another host's new file so many seconds late.
VISIBLE_SECONDS = 60.0


@dataclass(frozen=True)
class RunConfig:
    """The run as a whole.

    Attributes:
        name: Folder of this run under run.root; a second start with the same name resumes.
        root: Folder of all runs.
        seed: Seed of adapters, batches, dropout and decoding noise.
        trackers: Where the curves of a training are shown, beside its log.jsonl: tensorboard;
            wandb (kept in the run's folder, unless WANDB_MODE or WANDB_API_KEY is set); trackio
            (kept on this machine, unless TRACKIO_SPACE_ID or TRACKIO_SERVER_URL is set); []:
            nowhere.
    """

    name: Name = "run"
    root: Name = "runs"
    seed: Seed = 0
    trackers: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ("tensorboard",)

    def __post_init__(self) -> None:
        check_fields(self, "run")
        # Only `..` is a plain name to pathlib and leads out of run.root.
        if Path(self.name).name != self.name or self.name == "..":
            raise BadSetting(f"run.name: {self.name}; give a plain folder name, without a path")
        if "://" in self.root:
            raise BadSetting(
                f"run.root: {self.root}; a run needs locks, renaming and SQLite, which a bucket "
                "does not have: give a folder on a disk or an NFS share (launch/tpu.md), and copy "
                "the finished run to the bucket"
            )


class RunBusy(RuntimeError):
    """Another process holds this run's folder."""


class NotShared(RuntimeError):
    """The processes of one job do not see the same run folder."""


class StaleStage(RuntimeError):
    """A requested stage needs another one, which has not been run on these settings."""


class RunDir:
    """One run's folder, with the manifests of its stages; `lock` creates it."""

    def __init__(self, config: RunConfig):
        self.path = Path(config.root) / config.name

    def __truediv__(self, relative: str) -> Path:
        return self.path / relative

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the run's folder for this process. Raises RunBusy when another one holds it."""
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self / ".lock", "w") as file:
            try:
                # A killed process leaves no lock behind: the system ends a flock with it.
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RunBusy(
                    f"{self.path} is in use by another process; wait for it, or set run.name"
                ) from error
            yield

    def check_shared(self) -> None:
        """Raise NotShared (or OtherProcessFailed) unless all processes see the same folder."""
        if process_count() == 1:
            return
        path = self / ".shared"
        # A token of this start, since a killed one may have left its file.
        token = on_primary(lambda: _write_token(path))
        on_all(lambda: _await_token(path, token))
        on_primary(path.unlink)

    def is_current(self, stage: str, inputs: Mapping[str, Any]) -> bool:
        """Whether the stage finished on these inputs and its outputs are unchanged since."""
        manifest = self._manifest(stage)
        if manifest is None or manifest["digest"] != digest(inputs):
            return False
        return self._untouched(manifest)

    def reasons(self, stage: str, inputs: Mapping[str, Any]) -> list[str]:
        """Why the stage would run again on these inputs, in words; empty for a first start.

        Example: `["repair.loss.fn changed (linear -> focal)"]`.
        """
        manifest = self._manifest(stage)
        begun_on = manifest["inputs"] if manifest else self._begun_inputs(stage)
        if begun_on is None:
            return []

        changes = describe_changes(begun_on, as_recorded(inputs))
        if changes or manifest is None:
            return changes
        return [
            f"{name} is not what the stage left"
            for name, expected in manifest["outputs"].items()
            if hash_path(self.path / name) != expected
        ]

    @contextmanager
    def stage(
        self,
        stage: str,
        inputs: Mapping[str, Any],
        outputs: Sequence[str],
        work: Sequence[str],
        kept: Sequence[str] = (),
    ) -> Iterator[Path | None]:
        """Run a stage's body; write its manifest when the body ends without an error.

        Args:
            outputs: Files and folders, relative to the run, that make up the stage's result.
            work: Further files that only an interrupted stage needs; set aside with the outputs
                unless the stage was interrupted on the same inputs.
            kept: Files, in outputs or work, that stay because these inputs would make them again.

        Yields:
            The folder that the stage's earlier files were moved to; None where there were none.
        """
        set_aside_in = on_primary(lambda: self._begin(stage, inputs, [*outputs, *work], kept))
        started = time.perf_counter()
        yield set_aside_in
        seconds = round(time.perf_counter() - started, 2)
        on_primary(lambda: self._finish(stage, inputs, outputs, seconds))

    def _begin(
        self, stage: str, inputs: Mapping[str, Any], files: Sequence[str], kept: Sequence[str]
    ) -> Path | None:
        """Set the files of other inputs aside; return the folder that they are in now."""
        # A stage with a manifest has ended: what it left is a result, not partial work.
        unfinished = not (self / f"stages/{stage}.json").exists()
        if unfinished and self._begun_inputs(stage) == as_recorded(inputs):
            return None

        set_aside_in = self._set_aside(stage, files, kept)
        text = json.dumps({"inputs": as_recorded(inputs)}, indent=1, ensure_ascii=False)
        write_text(self / f"stages/{stage}.begun", text + "\n")
        return set_aside_in

    def _set_aside(self, stage: str, files: Sequence[str], kept: Sequence[str] = ()) -> Path | None:
        # This goes first: a crash while files move must not look like partial work.
        (self / f"stages/{stage}.begun").unlink(missing_ok=True)
        return set_aside(self.path, stage, files, f"stages/{stage}.json", kept)

    def _begun_inputs(self, stage: str) -> dict[str, Any] | None:
        """The inputs on which an unfinished stage was begun; None where none was."""
        path = self / f"stages/{stage}.begun"
        if not path.exists():
            return None
        begun = path.read_text(encoding="utf-8")
        # Earlier versions wrote a hash here, which cannot be compared with inputs.
        return json.loads(begun)["inputs"] if begun.startswith("{") else None

    def _finish(
        self, stage: str, inputs: Mapping[str, Any], outputs: Sequence[str], seconds: float
    ) -> None:
        manifest = {
            "digest": digest(inputs),
            "inputs": inputs,
            "outputs": {name: hash_path(self.path / name) for name in outputs},
            "seconds": seconds,
        }
        self._write_manifest(stage, manifest)

    def _write_manifest(self, stage: str, manifest: Mapping[str, Any]) -> None:
        text = json.dumps(manifest, indent=1, default=str, ensure_ascii=False)
        write_text(self / f"stages/{stage}.json", text + "\n")

    def finished_inputs(self, stage: str) -> dict[str, Any] | None:
        """The inputs of a finished stage as in its manifest; None if its outputs were changed."""
        manifest = self._manifest(stage)
        return manifest["inputs"] if manifest and self._untouched(manifest) else None

    def adopt(
        self, stage: str, inputs: Mapping[str, Any], files: Sequence[str], source: RunDir
    ) -> bool:
        """Take a stage over from another run, if it finished there on the same inputs.

        Its outputs are copied; afterwards their hashes are compared with the manifest's.

        Args:
            files: Outputs and partial work of the stage, as of `stage`; they are set aside first.

        Returns:
            Whether the stage is finished now. If not, it begins anew.
        """
        if not source.is_current(stage, inputs):
            return False

        # The manifest moves away first and is written last: after a crash in between, the stage
        # runs from its beginning.
        manifest = source._manifest(stage)
        self._set_aside(stage, files)
        for name in manifest["outputs"]:
            copy_path(source.path / name, self.path / name)
        # Nobody holds the source's lock: that run may have changed since it was found current.
        if not self._untouched(manifest):
            for name in manifest["outputs"]:
                remove(self.path / name)
            return False

        # If that run had taken the stage over itself, the run that did the work stays named.
        self._write_manifest(stage, {"taken_from": source.path.name, **manifest})
        return True

    def _untouched(self, manifest: Mapping[str, Any]) -> bool:
        outputs = manifest["outputs"].items()
        return all(hash_path(self.path / name) == expected for name, expected in outputs)

    def stage_at_work(self) -> str:
        """The stage that has begun and has not finished; '' where there is none."""
        # `.begun` stays where a stage has ended; its manifest is then there, too.
        begun = {path.stem for path in (self / "stages").glob("*.begun")}
        return next(iter(sorted(begun - self.seconds().keys())), "")

    def amend(self, stage: str, outputs: Sequence[str], work: Callable[[], None]) -> None:
        """Rewrite some outputs of a finished stage, which stays finished.

        A crash in between leaves the stage to be run again.
        """
        manifest = self._manifest(stage)
        work()
        # Of these only: that another output was changed must still be seen.
        for name in outputs:
            manifest["outputs"][name] = hash_path(self / name)
        self._write_manifest(stage, manifest)

    def seconds(self) -> dict[str, float]:
        """Wall time of the last start of each finished stage."""
        stages = sorted(path.stem for path in (self / "stages").glob("*.json"))
        return {stage: self._manifest(stage)["seconds"] for stage in stages}

    def _manifest(self, stage: str) -> dict[str, Any] | None:
        path = self / f"stages/{stage}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


class ResultFile(Generic[R]):
    """A file of records that is appended to, resumed after a crash, and sorted at the end.

    Every process holds the records; the file is the first one's. If all processes make the records,
    all of them call `add`; if the first makes them alone, the others get them from `finish`.

    Args:
        path: None for no file: the records are held in memory alone.

    Attributes:
        records: The file's records and those added since.
    """

    def __init__(self, path: Path | None, record_type: type[R]):
        self.path = path
        self.records: list[R] = []
        if path is not None:
            self.records = on_primary(lambda: resume_jsonl(path, record_type))

    def add(self, records: Sequence[R]) -> None:
        """Append records, which are on the disk when this returns."""
        if is_primary() and self.path is not None:
            append_jsonl(self.path, records)
        self.records.extend(records)

    def finish(self, position: Callable[[R], Any]) -> list[R]:
        """Rewrite the file with its records sorted by `position`, and return them."""

        def write() -> list[R]:
            ordered = sorted(self.records, key=position)
            if self.path is not None:
                write_jsonl(self.path, ordered)
            return ordered

        self.records = on_primary(write)
        return self.records


def _write_token(path: Path) -> str:
    token = secrets.token_hex(8)
    write_text(path, token)
    return token


def _await_token(path: Path, token: str) -> None:
    given_up = time.monotonic() + VISIBLE_SECONDS
    while not path.exists() or path.read_text(encoding="utf-8") != token:
        if time.monotonic() > given_up:
            raise NotShared(
                f"{path.parent.resolve()} is not the folder that the first process writes to; "
                "all hosts need one shared run.root, on a network file system or a mounted bucket"
            )
        time.sleep(0.2)


def as_recorded(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Convert inputs to what their manifest reads back as: tuples to lists, other types to text."""
    return json.loads(json.dumps(inputs, default=str))


def hash_path(path: Path) -> str | None:
    """SHA-256 of a file, or of a folder's names and contents; None when it is missing."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return digest([[str(file.relative_to(path)), hash_path(file)] for file in files])
    if not path.exists():
        return None
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def copy_path(source: Path, target: Path) -> None:
    """Copy a file or folder, if it exists."""
    target.parent.mkdir(parents=True, exist_ok=True)
    # Copied, not linked: what one run changes later must not change the other.
    if source.is_dir():
        shutil.copytree(source, target)
    elif source.exists():
        shutil.copyfile(source, target)
