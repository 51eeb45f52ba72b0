"""Confirm drift with a chat model: every screened pair gets a validated verdict or a failure.

An answer that is not the demanded structure is never read as "no drift": the judge is told what
was wrong and asked again, and after the last attempt the pair is a `JudgeFailure`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from dart_jax.audit.config import JudgeConfig
from dart_jax.audit.material import quoted_object
from dart_jax.audit.screen import Pair
from dart_jax.chat.protocol import ChatFailure, ChatModel, ChatReply, ChatRequest, Message
from dart_jax.prompts.conclusion import analysis_text
from dart_jax.prompts.templates import load_template
from dart_jax.records import DriftType, JudgeFailure, Question, Severity, Verdict

OnVerdict = Callable[[Verdict | JudgeFailure], None]


class JudgeAnswer(BaseModel):
    """What the judge must answer. Reason and passage come first: they are written before the
    decision that they should lead to."""

    model_config = ConfigDict(extra="forbid", strict=True)

    reason: str
    passage: str
    drift: bool
    type: Literal["elaborates", "normalizes", "omits"] | None
    severity: Literal["minor", "moderate", "severe", "extreme"] | None

    @model_validator(mode="after")
    def _type_and_severity_iff_drift(self) -> "JudgeAnswer":
        if self.drift != (self.type is not None) or self.drift != (self.severity is not None):
            raise ValueError("type and severity are null exactly when drift is false")
        return self


def judge_pairs(
    pairs: Iterable[Pair],
    questions: Mapping[str, Question],
    chat: ChatModel,
    config: JudgeConfig,
    on_result: OnVerdict | None = None,
) -> list[Verdict | JudgeFailure]:
    """Judge each pair (paper, audit stage).

    Args:
        pairs: The screened pairs.
        questions: By id; covers the pairs.
        chat: The judge.
        config: Temperature, answer length and attempts.
        on_result: Sees each verdict or failure as soon as it is decided, in any order.

    Returns:
        One verdict or failure a pair, in the order of `pairs`.

    Raises:
        ValueError: `judge.attempts` is below 1.
    """
    if config.attempts < 1:
        raise ValueError(f"judge.attempts is {config.attempts}; a pair needs one attempt or more")
    session = _Session(pairs, questions, chat.name, config, on_result)
    for attempt in range(1, config.attempts + 1):
        requests = session.requests()
        if requests:
            chat.complete(requests, lambda result, attempt=attempt: session.take(result, attempt))
    return session.results()


def judge_messages(pair: Pair, question: Question) -> tuple[Message, ...]:
    """The judge's prompt: the rubric, then question and both analyses as one JSON object."""
    material = quoted_object(
        {
            "question": question.text,
            "baseline": analysis_text(pair.baseline.text),
            "candidate": analysis_text(pair.candidate.text),
        }
    )
    return (
        {"role": "system", "content": load_template("judge_system").substitute()},
        {"role": "user", "content": load_template("judge_user").substitute(material=material)},
    )


def read_answer(text: str) -> JudgeAnswer | str:
    """The validated answer, or in one line what is wrong with it."""
    try:
        return JudgeAnswer.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        return f"{key + ': ' if key else ''}{first['msg']}"


@dataclass(frozen=True)
class _Open:
    """A pair that is not decided yet, with its conversation so far."""

    pair: Pair
    messages: tuple[Message, ...]


class _Session:
    """The pairs that still wait for a verdict, and the verdicts so far."""

    def __init__(
        self,
        pairs: Iterable[Pair],
        questions: Mapping[str, Question],
        judge: str,
        config: JudgeConfig,
        on_result: OnVerdict | None,
    ) -> None:
        self._judge, self._config, self._on_result = judge, config, on_result
        self._open = {
            f"{pair.candidate.model} {pair.question_id}": _Open(
                pair, judge_messages(pair, questions[pair.question_id])
            )
            for pair in pairs
        }
        self._order = list(self._open)
        self._decided: dict[str, Verdict | JudgeFailure] = {}

    def requests(self) -> list[ChatRequest]:
        """The next request of every open pair."""
        return [
            ChatRequest(
                id,
                waiting.messages,
                temperature=self._config.temperature,
                max_tokens=self._config.max_tokens,
                json_schema=JudgeAnswer.model_json_schema(),
            )
            for id, waiting in self._open.items()
        ]

    def take(self, result: ChatReply | ChatFailure, attempt: int) -> None:
        """Decide a pair by its answer, or prepare the next attempt."""
        answer = read_answer(result.text) if isinstance(result, ChatReply) else result.reason
        pair = self._open[result.id].pair
        if isinstance(answer, JudgeAnswer):
            self._decide(result.id, _verdict(pair, answer, self._judge))
        elif attempt == self._config.attempts:
            failure = JudgeFailure(
                pair.question_id, pair.candidate.model, answer, attempt, self._judge
            )
            self._decide(result.id, failure)
        elif isinstance(result, ChatReply):
            self._correct(result, answer)

    def results(self) -> list[Verdict | JudgeFailure]:
        """All outcomes, in the order of the pairs."""
        return [self._decided[id] for id in self._order]

    def _correct(self, reply: ChatReply, problem: str) -> None:
        # The whole conversation is kept: a response store keys by messages, so that a request
        # which looked like an earlier one would get the stored bad answer again.
        waiting = self._open[reply.id]
        correction = load_template("judge_correction").substitute(problem=problem)
        self._open[reply.id] = _Open(
            waiting.pair,
            (
                *waiting.messages,
                {"role": "assistant", "content": reply.text},
                {"role": "user", "content": correction},
            ),
        )

    def _decide(self, id: str, outcome: Verdict | JudgeFailure) -> None:
        del self._open[id]
        self._decided[id] = outcome
        if self._on_result:
            self._on_result(outcome)


def _verdict(pair: Pair, answer: JudgeAnswer, judge: str) -> Verdict:
    return Verdict(
        question_id=pair.question_id,
        candidate=pair.candidate.model,
        drift=answer.drift,
        type=DriftType(answer.type) if answer.type else None,
        severity=Severity[answer.severity.upper()] if answer.severity else None,
        passage=answer.passage,
        reason=answer.reason,
        judge=judge,
    )
