"""Read what a finished run left, and check that settings, adapters and numbers match."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dart_jax.changes import flatten
from dart_jax.config import STAGES, DartConfig, read_config
from dart_jax.evaluate.summary import SUMMARY, RunSummary, read_summary
from dart_jax.records import RejectedTarget, Target, read_jsonl
from dart_jax.run_dir import RunConfig, RunDir, StaleStage, as_recorded, hash_path
from dart_jax.sft.validation import read_validation
from dart_jax.stages.cycles import audited_adapters, cycles_run, later_models
from dart_jax.teach.planted import Planting, read_planting


@dataclass(frozen=True)
class FinishedRun:
    """A run whose stages are all done, or that was trained and not evaluated.

    Attributes:
        config: As in its config.yaml.
        summary: None for a run that is not evaluated: a fine-tuning
            (teach, distill), or one without test questions (`data.split_by: none`).
        versions: Packages and platform that it ran with.
        weights: `repair/weights.json`: examples and weight by severity; {} without a repair.
        targets: Training targets of the distill stage.
        rejected: Training questions for which the teacher had no acceptable target.
        planting: What was planted in the targets; None where nothing was.
        validation: `(epochs, loss)` of the held-out rows; empty where none were held out.
    """

    path: Path
    config: DartConfig
    summary: RunSummary | None
    versions: dict[str, str]
    weights: dict[str, dict[str, float]]
    targets: int
    rejected: int
    planting: Planting | None
    validation: list[tuple[float, float]]

    @property
    def adapters(self) -> list[str]:
        """The names of its adapters, in the order in which they were trained."""
        if not self.weights:
            return ["M_int"]
        return ["M_int", "M_DART", *later_models(self.path, self.config.repair.cycles)]

    def adapter(self, name: str) -> Path:
        """An adapter's folder. Raises ValueError with the names that exist for any other."""
        if name not in self.adapters:
            raise ValueError(f"--adapter {name}: {self.path} has {', '.join(self.adapters)}")
        return self.path / "adapters" / name


def run_folder(path: Path) -> RunDir:
    """The folder of a run that exists. Raises FileNotFoundError."""
    if not (path / "config.yaml").is_file():
        raise FileNotFoundError(f"{path} is no run: it has no config.yaml; give runs/<name>")
    path = path.resolve()
    return RunDir(RunConfig(name=path.name, root=str(path.parent)))


def read_finished(folder: RunDir) -> FinishedRun:
    """Read a run; the caller holds its lock.

    A run without any manifest after distill's is a fine-tuning; of every other one, all stages
    have to be finished, but for evaluate where no question was held back for it.

    Raises:
        StaleStage: A stage is not finished, its files were changed since, it ran on other
            settings than config.yaml's, or the adapters are not those that were evaluated.
        BadRecord, ValueError: A file of the run is damaged.
    """
    path = folder.path
    config = read_config(path / "config.yaml")
    stages = STAGES[:-1] if config.data.split_by == "none" else STAGES
    # A stage that was only begun counts, too: its run is no fine-tuning.
    later = [stage for stage in STAGES[2:] if any((folder / "stages").glob(f"{stage}*"))]
    for stage in stages if later else STAGES[:2]:
        check_stage(folder, stage, config)
    if not later:
        return _finished(path, config, None, {})

    for cycle in cycles_run(path, config.repair.cycles):
        for stage in ("audit", "repair"):
            check_stage(folder, cycle.stage_name(stage), config)

    weights = _read_json(path / "repair/weights.json")
    if "evaluate" not in stages:
        return _finished(path, config, None, weights)

    evaluated = _inputs(folder, "evaluate")["adapters"]
    if evaluated != audited_adapters(path, config.repair.cycles):
        raise _stale(path, "evaluate", "was run on other adapters")

    summary = read_summary(path / SUMMARY)
    return _finished(path, config, summary, weights)


def _finished(
    path: Path,
    config: DartConfig,
    summary: RunSummary | None,
    weights: dict[str, dict[str, float]],
) -> FinishedRun:
    return FinishedRun(
        path=path,
        config=config,
        summary=summary,
        versions=_read_json(path / "versions.json"),
        weights=weights,
        targets=len(read_jsonl(path / "teach/targets.jsonl", Target)),
        rejected=len(read_jsonl(path / "teach/rejected.jsonl", RejectedTarget)),
        planting=read_planting(path),
        validation=[(line.epoch, line.loss) for line in read_validation(path / "distill")],
    )


def check_stage(folder: RunDir, stage: str, config: DartConfig) -> None:
    """Raises StaleStage unless a stage is finished, untouched since, and ran on these settings."""
    _check_settings(folder.path, stage, _inputs(folder, stage), config)


def _inputs(folder: RunDir, stage: str) -> dict[str, Any]:
    """Read what a stage ran on. Raises StaleStage if it is not finished, or changed since."""
    path = folder / f"stages/{stage}.json"
    if not path.exists():
        raise _stale(folder.path, stage, "is not finished")
    manifest = _read_json(path)
    for name, expected in manifest["outputs"].items():
        if hash_path(folder / name) != expected:
            raise _stale(folder.path, stage, f"left {name}, which has changed or gone since")
    return manifest["inputs"]


def _check_settings(path: Path, stage: str, inputs: Mapping[str, Any], config: DartConfig) -> None:
    """Every setting that the stage recorded must be what config.yaml says now.

    A start of the run with other settings rewrites config.yaml before any stage has run on them.
    """
    ours, recorded = flatten(as_recorded(config.to_dict())), flatten(inputs)
    # Inputs that are no settings, such as hashes, are on one side only.
    for key in sorted(ours.keys() & recorded.keys()):
        if ours[key] != recorded[key]:
            change = f"was run with {key} {recorded[key]}, config.yaml says {ours[key]}"
            raise _stale(path, stage, change)


def check_base(folder: RunDir, stage: str, config: DartConfig) -> None:
    """Check that `model.path` holds the base on which a stage of the run was done, by content.

    So it is checked of `model.candidate`.

    Raises:
        BadCheckpoint: It holds another one now; names the parts that differ.
        StaleStage: The stage is not finished, or by an earlier version, which knew the base by
            its files' sizes.
    """
    # Imported here, so that --help does not wait for jax.
    from dart_jax.model.identity import checkpoint_identity, differing_parts
    from dart_jax.model.load import resolve_path
    from dart_jax.model.weights import BadCheckpoint

    paths = {"model": ("path", config.model.path)}
    if config.model.candidate is not None:
        paths["candidate"] = ("candidate", config.model.candidate)
    for key, (setting, path) in paths.items():
        recorded = _inputs(folder, stage)[key]
        if not isinstance(recorded, dict):
            raise _stale(folder.path, stage, "was run by a version that did not look into its base")
        base = resolve_path(path)
        differing = differing_parts(recorded, checkpoint_identity(base))
        if differing:
            raise BadCheckpoint(
                f"{base} is not, or no longer, the checkpoint that {folder.path} was trained on "
                f"(other {', '.join(differing)}); set model.{setting} in "
                f"{folder / 'config.yaml'} to that one"
            )


def _stale(path: Path, stage: str, what: str) -> StaleStage:
    # `audit_2` is asked for as `audit`.
    from_it_on = ",".join(STAGES[STAGES.index(stage.split("_")[0]) :])
    return StaleStage(
        f"{path}: stage {stage} {what}; run it first: "
        f"python -m dart_jax.train --config {path / 'config.yaml'} --stages {from_it_on}"
    )


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON ({error})") from error
