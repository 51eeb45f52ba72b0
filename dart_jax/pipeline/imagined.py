"""A run in which nothing is sent, loaded or trained: what `--dry-run` puts the stages through.

Where a stage would ask a model or a service, it gets a text whose tokens are UNKNOWN, made so that
the stage goes on along the path on which most is asked, or least. No request fails.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

from dart_jax.audit.config import GUARD
from dart_jax.chat.config import ServiceConfig
from dart_jax.chat.endpoint import endpoint_address
from dart_jax.chat.openai_client import answer_key
from dart_jax.chat.openai_format import read_response
from dart_jax.chat.protocol import ChatReply, ChatRequest
from dart_jax.config import DartConfig
from dart_jax.model.config import ModelConfig
from dart_jax.model.load import Model
from dart_jax.pipeline.prompt_tokens import UNKNOWN, UNKNOWN_OF_M0, prompt_counter
from dart_jax.prompts.conclusion import conclusion_line
from dart_jax.records import (
    Decision,
    DriftType,
    Generation,
    Question,
    StopReason,
    write_text,
)
from dart_jax.run_dir import ResultFile, RunConfig, RunDir
from dart_jax.stages.context import Run
from dart_jax.stages.cycles import Cycle
from dart_jax.teach.config import SaferConfig

S = TypeVar("S", bound=ServiceConfig)
StoredAnswers = Callable[[str], dict[str, Any] | None]


class ImaginedRun(Run):
    """A run whose models, services and scorers are imagined.

    Args:
        folder: An empty folder, which gets what stages write.
        stored: Looks up the true run's stored answers of services, by key.

    Attributes:
        most: Whether stages are led to ask most, or least.
        chats: The services that were opened.
    """

    def __init__(self, config: DartConfig, folder: Path, stored: StoredAnswers) -> None:
        place = RunDir(RunConfig(name=folder.name, root=str(folder.parent)))
        super().__init__(_imagined(config), place)
        self.most = True
        self.chats: list[CountingChat] = []
        self._stored = stored
        name = config.audit.screen_by.removesuffix("@full")
        self.scorers = (SimpleNamespace(name=name, version="", score=self._score),)

        # Every repair changes the model, so that no cycle is the last before its time.
        for number in range(1, config.repair.cycles + 1):
            for name in (Cycle(number).before, Cycle(number).after):
                write_text(self.adapter_path(name), name)

    def answers(
        self, files: Mapping[str, str], questions: Sequence[Question], policy: bool = False
    ) -> dict[str, list[Generation]]:
        """Imagine answers that are as long as they may be."""
        length = self.decode.max_new_tokens
        found = {}
        for name in files:
            text = (UNKNOWN_OF_M0 if name == "M0" else UNKNOWN) * length
            rest = (None, "not written yet", StopReason.LENGTH, 0, length)
            found[name] = [Generation(question.id, name, text, *rest) for question in questions]
        return found

    @contextmanager
    def service(self, role: str) -> Iterator[CountingChat]:
        """Open a service that counts what it is asked."""
        config = self.config.service(role)
        count, _ = prompt_counter(config.model)
        self.chats.append(CountingChat(self, role, config, self._stored, count))
        yield self.chats[-1]

    def results(self, file: str, record_type: type) -> ResultFile:
        """Hold results in memory; to secure each of thousands on the disk would take minutes."""
        return ResultFile(None, record_type)

    def _score(self, texts: Sequence[str]) -> list[tuple[float, dict[str, float]]]:
        """Score M0's answers below all texts, so that most is asked, or else the new targets."""
        harmless = UNKNOWN_OF_M0 if self.most else UNKNOWN
        return [(0.0 if harmless in text else 1.0, {}) for text in texts]

    def _load(self, config: ModelConfig) -> Model:
        raise RuntimeError(f"{config.path} in a dry run: stages get answers by Run.answers alone")


def _imagined(config: DartConfig) -> DartConfig:
    """Put services and texts in the place of what takes a model; what is asked stays the same."""
    audit = config.audit
    if audit.tau == "auto":  # whatever it will be, it lets a harmful answer pass to the judge
        audit = replace(audit, tau=0.0)
    if audit.mode == "planted":  # words of planted faults may be in every answer
        audit = replace(audit, mode="screen_only", tau=0.0)

    def as_service(section: S) -> S:
        is_local = section.provider in ("local", GUARD)
        return replace(section, provider="openai") if is_local else section

    # Which types of drift there will be is not known: all are treated as the one asked most about.
    rules = [config.repair.require_safer.rule(t, config.audit.asks_judge) for t in DriftType]
    most = next(rule for rule in ("judge", "scorer", "none") if rule in rules)
    repair = replace(config.repair, require_safer=SaferConfig(most, most, most))

    # Forced decisions need the model, and further scorers theirs; neither asks a service.
    judge = as_service(config.evaluate.judge)
    evaluate = replace(config.evaluate, forced=False, scorers=(), judge=judge)
    return replace(
        config,
        audit=audit,
        repair=repair,
        evaluate=evaluate,
        teacher=as_service(config.teacher),
        judge=as_service(config.judge),
    )


@dataclass
class CountingChat:
    """A `ChatModel` that sends nothing, and replies as it leads to most requests, or least.

    Attributes:
        role: As of `DartConfig.service`.
        sent, prompt_tokens: Requests that would be sent, and tokens of their prompts.
        stored: Requests that would not be, since the true run has their answers.
    """

    run: ImaginedRun
    role: str
    config: ServiceConfig
    stored_answer: StoredAnswers
    count: Callable[[ChatRequest], int]
    name: str = "imagined"
    sent: int = 0
    stored: int = 0
    prompt_tokens: int = 0
    _rounds: int = 0
    _replies: dict[str, str] = field(default_factory=dict)

    def complete(
        self, requests: Sequence[ChatRequest], on_result: Callable[[ChatReply], None]
    ) -> None:
        """Reply to a round of requests, of which equal ones are sent once."""
        self._rounds += 1
        address = endpoint_address(self.config.provider, self.config.base_url)
        for request in requests:
            key = answer_key(address, self.config.model, request)
            if key not in self._replies:
                self._replies[key] = self._reply(request, self.stored_answer(key))
            on_result(ChatReply(request.id, self._replies[key]))

    def forget(self, requests: Sequence[ChatRequest], reason: str) -> None:
        """Do nothing: only a later start asks again."""

    def _reply(self, request: ChatRequest, stored: dict[str, Any] | None) -> str:
        reply = None if stored is None else read_response(request, stored)
        if isinstance(reply, ChatReply):
            self.stored += 1
            return reply.text

        self.sent += 1
        self.prompt_tokens += self.count(request)
        if request.json_schema is not None:
            if not self.run.most:
                return _NO_DRIFT
            # An invalid verdict is asked for again: valid at the last attempt only, most is sent.
            return _verdict(request, is_valid=self._rounds == self.config.attempts)
        # Labels are asked for by the questions' own ids, targets by ids made of their prompts.
        is_label = request.id in self.run.questions
        if not self.run.most:
            return UNKNOWN if is_label else _target(request, is_whole=True)
        return _target(request, is_whole=self._rounds > self.config.correction_rounds)


_NO_DRIFT = json.dumps(
    {"reason": "", "passage": "", "worse": "neither", "type": None, "severity": None}
)


def _target(request: ChatRequest, is_whole: bool) -> str:
    """Write a text with the conclusion that the prompt wants; YES, the longer one, if none.

    Args:
        is_whole: Whether its last sentence does not break off, which is no target.
    """
    asked = "\n".join(turn["content"] for turn in request.messages if turn["role"] == "user")
    conclusion = max(map(conclusion_line, Decision), key=asked.rfind)
    end = "." if is_whole else ""
    return f"{UNKNOWN}. {UNKNOWN * request.max_tokens}{end}\n{conclusion}"


def _verdict(request: ChatRequest, is_valid: bool) -> str:
    """Find the text worse that is not M0's; an invalid verdict lacks the severity."""
    shown = request.messages[-1]["content"]
    # The text that stands last has the last of the signs: M0's there makes the first the
    # candidate's. A repair is beside a text of M_int, and worse in one order: it is sent back.
    worse = "first" if shown.rfind(UNKNOWN_OF_M0) > shown.rfind(UNKNOWN) else "second"
    severity = "moderate" if is_valid else ""
    fault = {"worse": worse, "type": "elaborates", "severity": severity}
    return json.dumps({"reason": "", "passage": "", **fault})
