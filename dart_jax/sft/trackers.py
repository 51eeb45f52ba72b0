"""Weights & Biases and trackio: a run of theirs for each training, beside TensorBoard.

Both are of an extra of their own, and imported where `run.trackers` names them. They are given the
numbers of the log and the run's public settings; that they watch the machine, the command line, the
code and the terminal, too, is switched off.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dart_jax.records import write_text
from dart_jax.sft.metrics import LogLine, scalars
from dart_jax.sft.validation import VALIDATION_LOSS, ValidationLine

PROJECT = "dart-jax"
IDENTITY = "tracker_id.txt"
"""Name of the file beside the training's log by which a later start finds the trackers' runs."""


class TrackerFailed(OSError):
    """A tracker did not open a run, or took no line; an OSError, as a failure to write is."""


@dataclass(frozen=True)
class Tracking:
    """The trackers of a run, and what they are told beside the lines of its log.

    Attributes:
        trackers: `run.trackers`.
        run: The run's name.
        settings: Its settings by their dotted names, without places, servers and keys.
    """

    trackers: tuple[str, ...] = ("tensorboard",)
    run: str = "run"
    settings: Mapping[str, Any] = field(default_factory=dict)


class WandbRun:
    """A run of Weights & Biases, kept in `wandb/` beside the log and sent only where that is asked.

    It is sent while it runs with WANDB_MODE=online, or with WANDB_API_KEY and no WANDB_MODE; else
    it is for `wandb sync`. WANDB_PROJECT and WANDB_ENTITY are read by the library.

    Args:
        told: Steps that earlier starts have logged; they are not told twice.
    """

    def __init__(self, folder: Path, title: str, tracking: Tracking, told: int):
        import wandb

        self._error, self._told = wandb.Error, told
        mode = wandb_mode(os.environ)
        identity = run_identity(folder)
        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", PROJECT),
                id=identity,
                # Without a server there is nothing to resume: the id joins the parts when synced.
                resume=None if mode == "offline" else "allow",
                name=f"{tracking.run} {title}",
                group=tracking.run,
                job_type=title,
                config=dict(tracking.settings),
                dir=folder,
                mode=mode,
                settings=wandb.Settings(
                    console="off",
                    disable_code=True,
                    disable_git=True,
                    x_disable_machine_info=True,
                    x_disable_meta=True,
                    x_disable_stats=True,
                    x_save_requirements=False,
                ),
            )
        except wandb.Error as error:
            raise TrackerFailed(
                f"run.trackers wandb: {error}; set WANDB_MODE=offline to keep the run in {folder} "
                "and send it later, or leave wandb out"
            ) from error

    def write(self, line: LogLine) -> None:
        """Log every number of the line, named as in TensorBoard."""
        if line.step > self._told:
            self._log(dict(scalars(line)), line.step)

    def measured(self, line: ValidationLine) -> None:
        """Log the loss with the numbers of the step before it."""
        # An earlier start may have been killed between the line of its last step and this.
        if line.step >= self._told:
            self._log({VALIDATION_LOSS: line.loss}, line.step)

    def _log(self, values: dict[str, float], step: int) -> None:
        try:
            self._run.log(values, step=step)
        except self._error as error:
            raise TrackerFailed(str(error)) from error

    def close(self) -> None:
        """Hand over what is left, and end the run; a later start continues it."""
        try:
            self._run.finish()
        except self._error as error:
            raise TrackerFailed(str(error)) from error


def wandb_mode(environment: Mapping[str, str]) -> str:
    """Decide whether anything is sent: WANDB_MODE says so, or else the presence of a key."""
    default = "online" if environment.get("WANDB_API_KEY") else "offline"
    return environment.get("WANDB_MODE") or default


class TrackioRun:
    """A run of trackio, in its folder on this machine (TRACKIO_DIR; `trackio show` shows it).

    With TRACKIO_SPACE_ID or TRACKIO_SERVER_URL the library sends it there; a new Space is private.

    Args:
        told: Steps that earlier starts have logged; they are not told twice.
    """

    def __init__(self, folder: Path, title: str, tracking: Tracking, told: int):
        import trackio

        self._told = told
        self._run = trackio.init(
            PROJECT,
            # A run of that name is continued: another training must not have it, too.
            name=f"{tracking.run} {title} {run_identity(folder)}",
            group=tracking.run,
            config=dict(tracking.settings),
            resume="allow",
            private=True,
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )

    def write(self, line: LogLine) -> None:
        """Log every number of the line, named as in TensorBoard."""
        if line.step > self._told:
            self._run.log(dict(scalars(line)), step=line.step)

    def measured(self, line: ValidationLine) -> None:
        """Log the loss at the step before it."""
        if line.step >= self._told:
            self._run.log({VALIDATION_LOSS: line.loss}, step=line.step)

    def close(self) -> None:
        """Hand over what is left, and end the run; a later start continues it."""
        self._run.finish()


def run_identity(folder: Path) -> str:
    """Read the id of a training's runs, which is drawn at its first start.

    It goes aside with the folder: a training that begins anew gets runs of its own.
    """
    path = folder / IDENTITY
    if not path.exists():
        write_text(path, secrets.token_hex(8) + "\n")
    return path.read_text(encoding="utf-8").strip()
