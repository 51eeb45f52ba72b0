"""What a run need not do, because it has done it before, or another run of the same sweep has.

    stage finished there on the same inputs        its outputs and manifest are copied
    audit, evaluate on other inputs                the answers and verdicts of those models for
                                                   which everything that they depend on is equal
    answers of services, harm scores               copied by their keys, before a run's first work

Only hashes of inputs decide, never names. What is copied is checked against its manifest. The
second line holds for a single run, too, whose stage was finished and is run again: another
`audit.tau` needs no new answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dart_jax.audit.score_store import copy_scores
from dart_jax.chat.store import copy_answers
from dart_jax.config import DartConfig
from dart_jax.pipeline.plan import PlannedStage
from dart_jax.run_dir import RunConfig, RunDir, as_recorded, copy_path
from dart_jax.stages.context import SCORES, LoadedModels, Run
from dart_jax.stages.cycles import FIRST, later_models
from dart_jax.stages.providers import STORE
from dart_jax.stages.test_answers import WITH_POLICY

# Inputs of a stage on which no model's answer depends; every other one has to be equal.
_FREE = {
    "audit": {"adapter", "judge", "scorers"},
    "evaluate": {
        *("adapters", "cycles", "distill only", "drift pool", "judge", "labels", "pool questions"),
        *("rejects", "scorers", "weights"),
    },
}
# The same within a section. What a later version adds counts as deciding, until it is named here.
_FREE_FIELDS = {
    "audit": {
        "mode",
        "scorer",
        "scorer_labels",
        "scorer_models",
        "scorers",
        "screen_by",
        "severity_bins",
        "tau",
        "views",
    },
    "evaluate": {"bootstrap_samples", "confidence"},
}
# Where answers to test prompts are audited, the drift pool is another matter.
_FREE_IN_EVALUATE = {"audit": {*_FREE_FIELDS["audit"], "pool_splits", "protocol", "max_prompts"}}
_JUDGED_BY = ("audit", "judge", "scorers")


@dataclass
class Reuse:
    """Work shared by the runs under one root.

    Attributes:
        root: Folder of the runs.
        loaded: Models by their settings.
    """

    root: Path
    loaded: LoadedModels = field(default_factory=dict)

    def keep_models_of(self, config: DartConfig) -> None:
        """Drop the models that a run with these settings has no use for."""
        paths = {config.model.path, config.teacher.model, config.judge.model}
        for model, mesh in list(self.loaded):
            same = replace(model, path=config.model.path) == config.model and mesh == config.mesh
            if not same or model.path not in paths:
                del self.loaded[model, mesh]

    def others(self, run: Run) -> Iterator[RunDir]:
        """The other runs under the root that have begun."""
        for path in sorted(self.root.iterdir()):
            if (path / "stages").is_dir() and path != run.folder.path:
                yield RunDir(RunConfig(name=path.name, root=str(self.root)))

    def take_stage(self, run: Run, planned: PlannedStage, inputs: Mapping[str, Any]) -> str | None:
        """Take a finished stage over; the name of the run that has done it, None if none has."""
        files = [*planned.outputs, *planned.work]
        taken = (o for o in self.others(run) if run.folder.adopt(planned.name, inputs, files, o))
        return next((other.path.name for other in taken), None)

    def take_stores(self, run: Run) -> None:
        """Take over what services have answered and scorers have scored."""
        for other in self.others(run):
            copy_answers(other / STORE, run.folder / STORE)
            copy_scores(other / SCORES, run.folder / SCORES)

    def take_answers(self, run: Run, planned: PlannedStage, inputs: Mapping[str, Any]) -> None:
        """Take over answers and verdicts that a stage would write again, where it has none yet.

        To be called in the stage, which sets aside what is left of others when it begins.
        """
        if planned.stage not in _FREE:
            return
        ours = as_recorded(inputs)
        for other in self.others(run):
            theirs = other.finished_inputs(planned.name)
            for file in _same_files(run, planned, ours, theirs) if theirs else ():
                if not (run.folder / file).exists():
                    copy_path(other / file, run.folder / file)


def kept_files(run: Run, planned: PlannedStage, inputs: Mapping[str, Any]) -> list[str]:
    """Answers and verdicts of this run that a stage which is run again would only repeat."""
    before = run.folder.finished_inputs(planned.name) if planned.stage in _FREE else None
    if before is None:
        return []
    found = _same_files(run, planned, as_recorded(inputs), before)
    return [file for file in found if (run.folder / file).exists()]


def _same_files(
    run: Run, planned: PlannedStage, ours: Mapping[str, Any], theirs: Mapping[str, Any]
) -> Iterator[str]:
    """Files of the stage that say the same in both runs."""
    if _deciding(planned.stage, ours) != _deciding(planned.stage, theirs):
        return
    if planned.stage == "audit":
        if planned.cycle == FIRST:  # whose answers of M0 all cycles audit against
            yield "audit/generations/M0.jsonl"
        if ours["adapter"] == theirs["adapter"]:
            yield planned.cycle.path(f"audit/generations/{planned.cycle.before}.jsonl")
        return
    same_judge = all(ours.get(key) == theirs.get(key) for key in _JUDGED_BY)
    names = ("M_int", "M_DART", *later_models(run.folder.path, run.config.repair.cycles))
    pairs = zip(names, ours["adapters"], theirs["adapters"], strict=False)
    same = [name for name, one, other in pairs if one == other]
    both = all(inputs["evaluate"]["policy"] == "both" for inputs in (ours, theirs))
    for folder in ("", WITH_POLICY) if both else ("",):
        yield f"generations{folder}/M0.jsonl"
        for name in same:
            yield f"generations{folder}/{name}.jsonl"
            if same_judge:
                yield f"evaluation{folder}/verdicts_{name}.jsonl"


def _deciding(stage: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs, and fields of sections, on which the models' answers depend.

    Asked both ways, the answers without the policy are those of a run without it.
    """
    if stage == "evaluate":
        asked = "with" if inputs["evaluate"]["policy"] == "with" else "without"
        inputs = {**inputs, "evaluate": {**inputs["evaluate"], "policy": asked}}
    free = {**_FREE_FIELDS, **(_FREE_IN_EVALUATE if stage == "evaluate" else {})}
    return {
        key: {name: row for name, row in value.items() if name not in free[key]}
        if key in free
        else value
        for key, value in inputs.items()
        if key not in _FREE[stage]
    }
