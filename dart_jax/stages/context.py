"""Hold what the stages of a run share: configuration, folder, questions, model, adapters."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import jax

from dart_jax.audit.config import GUARD
from dart_jax.audit.guard_service import GuardServiceScorer
from dart_jax.audit.judge_guard import Guard
from dart_jax.audit.llama_guard import LlamaGuardScorer
from dart_jax.audit.score_store import ScoreStore, StoredScorer
from dart_jax.audit.scorer_protocol import AnyScorer
from dart_jax.audit.scorers import make_scorers, single_scorer
from dart_jax.chat.protocol import ChatModel
from dart_jax.config import DartConfig
from dart_jax.data.splits import make_splits
from dart_jax.evaluate.evaluators import further_scorers
from dart_jax.evaluate.models import strength_of
from dart_jax.generate.answers import answer_questions
from dart_jax.generate.config import DecodeConfig
from dart_jax.model.config import MeshConfig, ModelConfig
from dart_jax.model.identity import checkpoint_identity
from dart_jax.model.load import Model, load_model, loading_inputs, resolve_path
from dart_jax.model.lora import LoraParams, lora_axes
from dart_jax.model.peft_file import load_peft, save_peft
from dart_jax.model.sharding import make_mesh, replicated, tree_shardings
from dart_jax.processes import check_started, on_primary, to_devices
from dart_jax.prompts.conclusion import RULE
from dart_jax.prompts.planted import PLANTED_TEXTS, with_harm_request
from dart_jax.prompts.templates import TEXTS
from dart_jax.records import DriftType, Generation, Question, digest
from dart_jax.report.public import name_on_hub, tracked_settings
from dart_jax.run_dir import ResultFile, RunDir, hash_path
from dart_jax.sft.trackers import Tracking
from dart_jax.stages.services import open_service
from dart_jax.teach.planted import DealtFault, Planting, mark_model, read_planting
from dart_jax.teach.planting import deal_faults

R = TypeVar("R")

SCORES = "scores.sqlite"
LoadedModels = dict[tuple[ModelConfig, MeshConfig], Model]


class Run:
    """One run in progress. Questions are loaded at once, the model when a stage needs it.

    Stages get answers, scores, services and result files here alone, so that the dry run can give
    them imagined ones.

    Args:
        loaded: Models that are loaded already, by their settings; runs of one sweep share it.

    Attributes:
        stage: The stage that runs now; what services are asked is counted by it.
        splits, questions: Questions by split and by id, as every model is asked them.
        faults: Faults that are planted in targets, by benchmark; empty where `plant` is off.

    Raises:
        BadSetting: `plant.benchmarks` names one that the suite lacks.
    """

    def __init__(self, config: DartConfig, folder: RunDir, loaded: LoadedModels | None = None):
        self.config = config
        self.folder = folder
        self.stage = ""
        self.splits, self.faults = asked_splits(config)
        self.questions: dict[str, Question] = {
            q.id: q for questions in self.splits.values() for q in questions
        }
        self._loaded = {} if loaded is None else loaded
        self._identities: dict[Path, dict[str, str]] = {}

    @property
    def model(self) -> Model:
        """The base model M0."""
        return self._load(self.config.model)

    def model_of(self, name: str) -> Model:
        """The base model on which a model is an adapter: M0, or for others `model.candidate`."""
        return self.model if name == "M0" else self.model_at(self.config.model.trained_path)

    @cached_property
    def scorers(self) -> tuple[AnyScorer, ...]:
        """The configured harm scorers, which score a text once a run; for the first process."""
        return self._stored(make_scorers(self.config.audit, partial(self.service, GUARD)))

    @cached_property
    def evaluator_scorers(self) -> tuple[AnyScorer, ...]:
        """The scorers of `evaluate.scorers`, likewise; no audit or repair uses them."""
        settings = self.config.further_scorers
        return self._stored(further_scorers(settings, partial(self.service, GUARD)))

    def _stored(self, scorers: Sequence[AnyScorer]) -> tuple[AnyScorer, ...]:
        store = ScoreStore(self.folder / SCORES)
        return tuple(StoredScorer(scorer, store) for scorer in scorers)

    @cached_property
    def scorer(self) -> AnyScorer:
        """The scorer for a text that stands alone, outside a pair; for the first process."""
        return single_scorer(self.scorers, self.config.audit.screen_by)

    @property
    def tracking(self) -> Tracking:
        """The trackers of a training, with the settings that may leave this machine."""
        settings = tracked_settings(self.config.to_dict())
        return Tracking(self.config.run.trackers, self.config.run.name, settings)

    @cached_property
    def guard(self) -> Guard:
        """The guard that judges (`judge.provider` guard); for the first process."""
        if self.config.judge.model is None:
            return GuardServiceScorer(self.config.audit.guard, partial(self.service, GUARD))
        return LlamaGuardScorer(self.config.judge.model, "judge.model")

    def model_at(self, path: str | None) -> Model:
        """M0, or another local model for the teacher or the judge."""
        if path is None or path == self.config.model.path:
            return self.model
        return self._load(dataclasses.replace(self.config.model, path=path))

    def _load(self, config: ModelConfig) -> Model:
        key = (config, self.config.mesh)
        if key not in self._loaded:
            check_started()
            print(f"loading {config.path}", flush=True)
            self._loaded[key] = load_model(config, make_mesh(self.config.mesh))
        return self._loaded[key]

    def adapter(self, name: str) -> tuple[LoraParams, float]:
        """Adapter weights on the mesh and their scale; none for M0.

        Args:
            name: Of the adapter, or with a strength, as of `evaluate.models.at_strength`.
        """
        return self.adapters([name])[name]

    def adapters(self, names: Iterable[str]) -> dict[str, tuple[LoraParams, float]]:
        """Load several models' adapters, each adapter once, whatever strengths it acts at."""
        loaded: dict[str, LoraParams] = {"M0": {}}
        found = {}
        for name in names:
            adapter, strength = strength_of(name)
            if adapter not in loaded:
                path = self.adapter_path(adapter)
                architecture = self.model_of(adapter).config
                loaded[adapter] = self.placed(load_peft(path, architecture, self.config.lora))
            scale = strength * self.config.lora.scale if adapter != "M0" else 0.0
            found[name] = (loaded[adapter], scale)
        return found

    def placed(self, lora: LoraParams) -> LoraParams:
        """An adapter that every process holds whole, on the mesh."""
        return to_devices(lora, tree_shardings(self.model.mesh, lora_axes(lora), lora))

    def save_adapter(self, name: str, lora: LoraParams, planting: Planting | None = None) -> None:
        """Write an adapter from the mesh, in PEFT's format, and what was planted in its targets.

        Args:
            planting: What an adapter from elsewhere says of itself; None: what the run knows.
        """
        path, model = self.adapter_path(name), self.model_of(name)
        # Not in `save`, which one process does alone: all take part in gathering.
        whole = jax.device_put(lora, replicated(model.mesh))

        def save() -> None:
            # Before the adapter, which is complete once its configuration is there.
            mark_model(path, planting or read_planting(self.folder.path))
            save_peft(path, whole, self.config.lora, name_on_hub(model.name) or model.name)

        on_primary(save)

    def adapter_path(self, name: str) -> Path:
        """Folder of an adapter, in PEFT's format."""
        return self.folder / f"adapters/{name}"

    def m_dart_is_m_int(self) -> bool:
        """Tell whether nothing was repaired: both adapters have the same files."""
        return hash_path(self.adapter_path("M_DART")) == hash_path(self.adapter_path("M_int"))

    def answers(
        self, files: Mapping[str, str], questions: Sequence[Question], policy: bool = False
    ) -> dict[str, list[Generation]]:
        """Have models answer questions, as far as their files do not hold the answers yet.

        Models on one base answer in one pass; with `model.candidate`, M0 has a pass of its own.

        Args:
            files: Where each model's answers are kept, relative to the run, by the model's name.
            policy: Whether the explanation policy is in the system prompt.
        """
        paths = {name: self.folder / file for name, file in files.items()}
        passes = [paths]
        if self.config.model.candidate is not None:
            of_m0 = {name: path for name, path in paths.items() if name == "M0"}
            passes = [of_m0, {name: path for name, path in paths.items() if name != "M0"}]

        found = {}
        for together in filter(None, passes):
            found |= answer_questions(
                self.model_of(next(reversed(together))),
                self.adapters(name for name in together if name != "M0"),
                questions,
                together,
                self.decode,
                self.config.run.seed,
                policy,
            )
        return found

    def service(self, role: str) -> AbstractContextManager[ChatModel]:
        """Open the service behind a role, see `DartConfig.service`, for the stage that runs."""
        return open_service(self.folder, self.config.service(role), role, self.stage)

    def results(self, file: str, record_type: type[R]) -> ResultFile[R]:
        """Open a file of the run to which results are added as they come."""
        return ResultFile(self.folder / file, record_type)

    def common_inputs(self) -> dict[str, Any]:
        """Inputs of every stage: the prompts' wording, how answers are read, and the seed."""
        seed = self.config.run.seed
        return {"prompts": _prompts_digest(), "conclusion": RULE, "run.seed": seed}

    def planting_inputs(self) -> dict[str, Any]:
        """Inputs of the stages that plant faults or recognise them; none where planting is off."""
        if not self.faults:
            return {}
        return {"plant": self.section("plant"), "planted texts": hash_path(PLANTED_TEXTS)}

    def model_inputs(self, path: str | None = None) -> dict[str, Any]:
        """Identify M0, with the candidate beside it, or another local model.

        That is by its content, and how it is loaded.
        """
        candidate = self.config.model.candidate if path is None else None
        settings = loading_inputs(self.config.model, resolve_path(path or self.config.model.path))
        return {
            "model": self._identity(path or self.config.model.path),
            **({"candidate": self._identity(candidate)} if candidate else {}),
            **{f"model.{key}": value for key, value in settings.items()},
        }

    def _identity(self, path: str) -> dict[str, str]:
        """Look at a checkpoint's content once: it is that of the model that this run loads."""
        found = resolve_path(path)
        if found not in self._identities:
            self._identities[found] = checkpoint_identity(found)
        return self._identities[found]

    def split_input(self, *names: str) -> str:
        """Hash the questions of some splits."""
        return digest([questions_digest(self.splits[name]) for name in names])

    def section(self, name: str) -> dict[str, Any]:
        """A section of the configuration as plain values."""
        return dataclasses.asdict(getattr(self.config, name))

    @property
    def decode(self) -> DecodeConfig:
        """Decoding settings, the same for every model."""
        return self.config.decode


def asked_splits(
    config: DartConfig,
) -> tuple[dict[str, list[Question]], dict[str, DealtFault]]:
    """Load a run's questions by split, and deal the faults that it plants to their benchmarks.

    Where the fault is to omit a harm, the question itself asks for the harm, in every split.
    """
    splits = make_splits(config.data)
    benchmarks = {question.benchmark for questions in splits.values() for question in questions}
    faults = deal_faults(config.plant, benchmarks, config.run.seed)
    asking = {name for name, fault in faults.items() if fault.type is DriftType.OMITS}
    for name, questions in splits.items():
        splits[name] = [
            with_harm_request(question) if question.benchmark in asking else question
            for question in questions
        ]
    return splits, faults


def _prompts_digest() -> str:
    """Hash the prompts of every role; the texts in subfolders concern the stage that uses them."""
    files = sorted(TEXTS.glob("*.txt"))
    return digest([[file.name, hash_path(file)] for file in files])


def questions_digest(questions: Sequence[Question]) -> str:
    """Hash some questions, in their order."""
    return digest([dataclasses.asdict(question) for question in questions])
