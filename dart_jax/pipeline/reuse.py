"""Find the stages that a run, or another of its sweep, has done before, and reuse them.

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
from dart_jax.stages.services import STORE


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
        paths = {
            config.model.path,
            config.model.trained_path,
            *(config.service(role).model for role in config.roles),
        }
        for model, mesh in list(self.loaded):
            # A local teacher or judge is loaded with the base's settings, but for the path.
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
        if planned.same_answers is None:
            return
        ours = as_recorded(inputs)
        for other in self.others(run):
            theirs = other.finished_inputs(planned.name)
            for file in planned.same_answers(run, ours, theirs) if theirs else ():
                # A stopped start of the stage may have begun the file itself.
                if not (run.folder / file).exists():
                    copy_path(other / file, run.folder / file)


def kept_files(run: Run, planned: PlannedStage, inputs: Mapping[str, Any]) -> list[str]:
    """Answers and verdicts of this run that a stage which is run again would only repeat."""
    before = run.folder.finished_inputs(planned.name)
    if planned.same_answers is None or before is None:
        return []
    found = planned.same_answers(run, as_recorded(inputs), before)
    return [file for file in found if (run.folder / file).exists()]
