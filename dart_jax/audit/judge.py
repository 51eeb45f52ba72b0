"""Confirm drift with a chat model: every pair gets a validated outcome or a failure.

The judge sees each pair twice, once in each order, as a first and a second text. An answer without
the required structure is never read as "no drift": the judge is asked again and told what was
wrong, and after the last attempt the pair is a `JudgeFailure`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from pydantic import BaseModel, ConfigDict, model_validator

from dart_jax.audit.config import JudgeConfig
from dart_jax.audit.judge_reply import read_reply
from dart_jax.audit.orders import ORDERS, Side, combine, ordered
from dart_jax.audit.screen import Pair
from dart_jax.chat.protocol import ChatFailure, ChatModel, ChatReply, ChatRequest, Message
from dart_jax.prompts.conclusion import analysis_of
from dart_jax.prompts.material import quoted_object
from dart_jax.prompts.templates import load_template
from dart_jax.records import DriftType, JudgeFailure, Opinion, Outcome, Question, Severity

OnVerdict = Callable[[Outcome], None]


class JudgeAnswer(BaseModel):
    """What the judge must answer. Reason and passage come first: they are written before the
    decision that they should lead to."""

    # The docstring is the schema's description: sent to the judge, and part of a request's key.
    model_config = ConfigDict(extra="forbid", strict=True)

    reason: str
    passage: str
    worse: Literal["first", "second", "neither"]
    type: Literal["elaborates", "normalizes", "omits"] | None
    severity: Literal["minor", "moderate", "severe", "extreme"] | None

    @model_validator(mode="after")
    def _type_and_severity_iff_worse(self) -> "JudgeAnswer":
        has_worse = self.worse != "neither"
        if has_worse != (self.type is not None) or has_worse != (self.severity is not None):
            # The judge gets to read this: its next prompt names the problem.
            raise ValueError("type and severity are null exactly when worse is neither")
        return self


def judge_pairs(
    pairs: Iterable[Pair],
    questions: Mapping[str, Question],
    chat: ChatModel,
    config: JudgeConfig,
    on_result: OnVerdict | None = None,
) -> list[Outcome]:
    """Judge each pair in both orders (paper, audit stage; the orders are ours).

    Args:
        pairs: The pairs to judge.
        questions: The pairs' questions by id.
        chat: The judge.
        config: Temperature, answer length and attempts.
        on_result: Called with each outcome as soon as it is decided, in any order.

    Returns:
        One outcome for each pair, in the order of `pairs`; see `orders.combine`. A pair is a
        failure when one of its orders got no valid answer in `config.attempts` requests. The
        invalid answers are forgotten, so that the next start asks again.
    """
    session = _Session(pairs, questions, chat, config, on_result)
    for attempt in range(1, config.attempts + 1):
        requests = session.requests()
        if requests:
            chat.complete(requests, lambda result, attempt=attempt: session.take(result, attempt))
    return session.results()


def judge_messages(pair: Pair, question: Question, first: Side) -> tuple[Message, ...]:
    """Build the judge's prompt: the rubric, then question and both analyses as one JSON object.

    Args:
        first: The side that is shown first. Nothing in the prompt reveals which it is.
    """
    answers = {"baseline": pair.baseline, "candidate": pair.candidate}
    first_text, second_text = [analysis_of(answers[side]) for side in ordered(first)]
    material = quoted_object(
        {"question": question.text, "first": first_text, "second": second_text}
    )
    return (
        {"role": "system", "content": load_template("judge_system").substitute()},
        {"role": "user", "content": load_template("judge_user").substitute(material=material)},
    )


def corrected(messages: tuple[Message, ...], attempt: int, problem: str) -> tuple[Message, ...]:
    """Repeat a prompt with what was wrong with the reply to it.

    The reply itself stays out: it may quote a text under judgement verbatim. The attempt's number
    makes each prompt a new request, so that a response store does not return the bad reply again.

    Args:
        attempt: Number of the new request, 2 or more.
        problem: The fault, as `read_answer` words it.
    """
    correction = load_template("judge_correction").substitute(attempt=attempt, problem=problem)
    *earlier, last = messages
    return (*earlier, {**last, "content": f"{last['content']}\n\n{correction}"})


def read_answer(text: str) -> JudgeAnswer | str:
    """Validate an answer, or say in one line what is wrong with it; see `read_reply`."""
    return read_reply(text, JudgeAnswer)


@dataclass(frozen=True)
class _Ask:
    """A pair in one order that still waits for a valid answer.

    Attributes:
        key: Key of the pair's case.
        first: The side that is shown first.
        original: The prompt of the first attempt.
        messages: The prompt of the next attempt.
        unusable: Requests so far, whose replies were invalid.
    """

    key: str
    first: Side
    original: tuple[Message, ...]
    messages: tuple[Message, ...]
    unusable: tuple[ChatRequest, ...] = ()


@dataclass
class _Case:
    """A pair and the result of each order: an opinion, or the problem that ended the attempts."""

    pair: Pair
    attempts: int = 0
    opinions: dict[Side, Opinion | str] = field(default_factory=dict)


class _Session:
    """The pairs that still wait for an answer, and the outcomes that are decided."""

    def __init__(
        self,
        pairs: Iterable[Pair],
        questions: Mapping[str, Question],
        chat: ChatModel,
        config: JudgeConfig,
        on_result: OnVerdict | None,
    ) -> None:
        self._chat, self._config, self._on_result = chat, config, on_result
        # Made once: it takes longer than the rest of a request.
        self._schema = JudgeAnswer.model_json_schema()
        # Several models may be audited on one question, so that its id alone names no pair.
        self._cases = {f"{pair.candidate.model} {pair.question_id}": _Case(pair) for pair in pairs}
        self._open: dict[str, _Ask] = {}
        for key, case in self._cases.items():
            for first in ORDERS:
                messages = judge_messages(case.pair, questions[case.pair.question_id], first)
                self._open[f"{key} {first}"] = _Ask(key, first, messages, messages)
        self._decided: dict[str, Outcome] = {}

    def requests(self) -> list[ChatRequest]:
        """Make the next request of every open order."""
        return [self._request(id, ask) for id, ask in self._open.items()]

    def take(self, result: ChatReply | ChatFailure, attempt: int) -> None:
        """Note an answer, or prepare the next attempt; decide the pair when both orders are in."""
        ask = self._open[result.id]
        self._cases[ask.key].attempts += 1
        replied = isinstance(result, ChatReply)
        answer = read_answer(result.text) if replied else result.reason

        if isinstance(answer, JudgeAnswer):
            del self._open[result.id]
            self._note(ask, answer)
            return

        if replied:
            # Before the prompt is corrected: what is forgotten later is the request as it was sent.
            ask = replace(ask, unusable=(*ask.unusable, self._request(result.id, ask)))

        if attempt == self._config.attempts:
            del self._open[result.id]
            self._chat.forget(ask.unusable, answer)
            self._note(ask, answer)
        elif replied:
            # From the first prompt, so that corrections do not pile up. A failed request has no
            # reply to correct, and is sent again as it was.
            messages = corrected(ask.original, attempt + 1, answer)
            self._open[result.id] = replace(ask, messages=messages)

    def results(self) -> list[Outcome]:
        """Return all outcomes, in the order of the pairs."""
        return [self._decided[key] for key in self._cases]

    def _request(self, id: str, ask: _Ask) -> ChatRequest:
        return ChatRequest(
            id,
            ask.messages,
            temperature=self._config.temperature,
            max_tokens=self._config.max_tokens,
            json_schema=self._schema,
        )

    def _note(self, ask: _Ask, answer: JudgeAnswer | str) -> None:
        """Note the result of one order; with the second one the pair is decided."""
        case = self._cases[ask.key]
        valid = isinstance(answer, JudgeAnswer)
        case.opinions[ask.first] = _opinion(ask.first, answer) if valid else answer
        if len(case.opinions) < len(ORDERS):
            return

        self._decided[ask.key] = _outcome(case, self._chat.name)
        if self._on_result:
            self._on_result(self._decided[ask.key])


def _outcome(case: _Case, judge: str) -> Outcome:
    opinions = [case.opinions[first] for first in ORDERS]
    problems = []
    for first, opinion in zip(ORDERS, opinions, strict=True):
        if isinstance(opinion, str):
            problems.append(f"{first} first: {opinion}")

    # One valid order does not decide: it cannot tell a worse text from a preferred place.
    if not problems:
        return combine(case.pair, tuple(opinions), judge)

    return JudgeFailure(
        case.pair.question_id,
        case.pair.candidate.model,
        "; ".join(problems),
        case.attempts,
        judge,
    )


def _opinion(first: Side, answer: JudgeAnswer) -> Opinion:
    sides = dict(zip(("first", "second"), ordered(first), strict=True))
    return Opinion(
        first=first,
        worse=sides.get(answer.worse, "neither"),
        type=DriftType(answer.type) if answer.type else None,
        severity=Severity[answer.severity.upper()] if answer.severity else None,
        passage=answer.passage,
        reason=answer.reason,
    )
