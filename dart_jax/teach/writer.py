"""Label-conditioned targets: a teacher writes them, and those that break a rule go back to it."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from dart_jax.chat.protocol import ChatFailure, ChatModel, ChatReply, ChatRequest, Message
from dart_jax.prompts.conclusion import analysis_text, before_conclusion, conclusion_line
from dart_jax.prompts.planted import asks_for_harm, names_harm
from dart_jax.prompts.templates import correction_message
from dart_jax.records import Question, RejectedTarget, Severity, Target, WeightSpan, digest
from dart_jax.teach.config import TeacherConfig
from dart_jax.teach.quality import (
    MAX_SENTENCES,
    NOT_SAFER,
    Violation,
    check_copy,
    check_harm,
    check_target,
    first_sentences,
)

TargetResult = Target | RejectedTarget


class MissingRationale(ValueError):
    """The suite has no rationale for a question."""


@dataclass(frozen=True)
class TargetRequest:
    """One target to be written.

    Attributes:
        question: The question, with the label to argue for.
        messages: The teacher's prompt.
        stage: `distill` or `repair`.
        weight: The target's loss weight.
        severity: Severity of the drift to repair; None for distill.
        drifted: The rationale to repair; None for distill.
        spans: Token weights within the suite's own text; a text by a teacher has none.
    """

    question: Question
    messages: tuple[Message, ...]
    stage: Literal["distill", "repair"]
    weight: float = 1.0
    severity: Severity | None = None
    drifted: str | None = None
    spans: tuple[WeightSpan, ...] = ()


IsSafer = Callable[[TargetRequest, str], bool]
"""Says whether a text scores lower on the audit's harm scorer than the rationale that its request
asks to repair."""


@dataclass
class _Draft:
    """A request on its way through the correction rounds."""

    request: TargetRequest
    messages: tuple[Message, ...]
    corrections_left: int
    reasons: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    result: TargetResult | None = None

    def may_try_again(self, code: str) -> bool:
        """Say whether another attempt follows a fault; called once for each fault.

        A target that is no safer is sent back once, whatever the number of other corrections.
        """
        if code == NOT_SAFER.code:
            # The fault at hand is among the reasons already.
            return sum(reason.startswith(f"{code}:") for reason in self.reasons) == 1
        self.corrections_left -= 1
        return self.corrections_left >= 0


def write_targets(
    requests: Sequence[TargetRequest],
    chat: ChatModel,
    config: TeacherConfig,
    *,
    force_conclusion: bool = False,
    is_safer: IsSafer | None = None,
    on_result: Callable[[TargetResult], None] | None = None,
) -> list[TargetResult]:
    """Have a teacher write targets, with up to `config.correction_rounds` corrections each.

    A text that breaks a rule goes back with the rule; a failed request is sent again. A repair
    target that is no safer than the rationale that it repairs goes back once, beyond the correction
    rounds, and is then rejected. Each counts as an attempt, and a request without an acceptable
    attempt ends as a `RejectedTarget` with every reason and text.

    Args:
        requests: The requests without a result yet.
        chat: The teacher.
        config: Settings; `temperature`, `max_tokens` and `correction_rounds` are read.
        force_conclusion: Keep the first four sentences before any conclusion and put the gold
            conclusion line after them, whatever the teacher concludes. This is for local teachers,
            which are too small to know when to stop, and may be cut off; the sentences that are
            kept are still checked.
        is_safer: Compares a repair target with the rationale that it repairs.
        on_result: Called with each result once decided, so that it can be saved at once.

    Returns:
        One result for each request, in the order given.
    """
    drafts = [_Draft(request, request.messages, config.correction_rounds) for request in requests]
    pending = drafts
    while pending:
        by_id = _name_drafts(pending)

        # The default binds this round's drafts: the next round replaces the variable.
        def settle(answer: ChatReply | ChatFailure, by_id=by_id) -> None:
            draft = by_id[answer.id]
            _advance(draft, answer, chat.name, force_conclusion, is_safer)
            if draft.result is not None and on_result is not None:
                on_result(draft.result)

        chat_requests = [_chat_request(id, by_id[id], config, force_conclusion) for id in by_id]
        chat.complete(chat_requests, on_result=settle)
        pending = [draft for draft in pending if draft.result is None]

    return [draft.result for draft in drafts]


def file_targets(
    requests: Sequence[TargetRequest],
    rationales: dict[str, str],
    is_safer: IsSafer | None = None,
) -> list[TargetResult]:
    """Make targets of the suite's own rationales, under the same quality control.

    The text of an unlabelled question is taken as it is, without conclusion line or control.

    Args:
        requests: Requests of either stage; their messages are not used.
        rationales: Analysis text, without conclusion line, by question id; for an unlabelled
            question its completion.
        is_safer: As for `write_targets`; a file cannot be asked again.

    Raises:
        MissingRationale: A question has no rationale.
    """
    check_rationales([request.question.id for request in requests], rationales)
    return [
        _file_target(request, rationales[request.question.id], is_safer) for request in requests
    ]


def check_rationales(question_ids: Iterable[str], rationales: Mapping[str, str]) -> None:
    """Raise MissingRationale unless each question has a text."""
    missing = [id for id in question_ids if id not in rationales]
    if missing:
        raise MissingRationale(
            f"{len(missing)} questions have no rationale, the first is {missing[0]};"
            " teacher.provider file takes the suite's own texts (mini has them for both stages, a"
            " suite jsonl or hub may have completions for distill): set teacher.provider to rules"
            " for the suite difference_awareness, to local or openai otherwise"
        )


def _file_target(request: TargetRequest, rationale: str, is_safer: IsSafer | None) -> TargetResult:
    completion = rationale
    violation = None
    if request.question.condition is not None:
        completion = with_conclusion(rationale, request.question)
        violation = find_violation(request, completion, is_safer)
    if violation is not None:
        reason = f"{violation.code}: {violation.rule}"
        return RejectedTarget(request.question.id, request.stage, [reason], [rationale])
    target = make_target(request, completion, provider="file", attempts=0)
    return replace(target, spans=request.spans)


def _name_drafts(drafts: Sequence[_Draft]) -> dict[str, _Draft]:
    """Name drafts by their prompts alone, since ids key a local teacher's sampling noise.

    One question may have several drift cases; even two equal requests get two ids.
    """
    # Equal prompts are numbered in the order of the requests.
    uses: Counter[str] = Counter()
    named = {}
    for draft in drafts:
        name = f"{draft.request.question.id}/{digest(draft.messages)[:16]}"
        named[f"{name}/{uses[name]}"] = draft
        uses[name] += 1
    return named


def _chat_request(id: str, draft: _Draft, config: TeacherConfig, may_be_cut: bool) -> ChatRequest:
    return ChatRequest(
        id, draft.messages, config.temperature, config.max_tokens, may_be_cut=may_be_cut
    )


def find_violation(
    request: TargetRequest, completion: str, is_safer: IsSafer | None
) -> Violation | None:
    """Return the first rule that a completion breaks; the scorer comes last."""
    question, turns = request.question, request.messages
    # The request's messages: those of a draft also hold the teacher's own rejected texts.
    examples = [turn["content"] for turn in turns if turn["role"] == "assistant"]
    violation = check_target(completion, question) or check_copy(completion, examples)
    if violation is not None or request.drifted is None:
        return violation

    violation = check_harm(completion, question)
    # A text that names the harm again scores no lower than the one that left it out.
    restores_harm = asks_for_harm(question) and not names_harm(request.drifted)
    if violation is not None or is_safer is None or restores_harm:
        return violation
    return None if is_safer(request, completion) else NOT_SAFER


def _advance(
    draft: _Draft,
    answer: ChatReply | ChatFailure,
    provider: str,
    force: bool,
    is_safer: IsSafer | None,
) -> None:
    """Accept the answer, or note its fault and prepare the next attempt."""
    question = draft.request.question
    if isinstance(answer, ChatFailure):
        # The messages stay as they are: there is no text to correct.
        code = "request_failed"
        draft.reasons.append(f"{code}: {answer.reason}")
        draft.texts.append("")
    else:
        completion = _forced(answer.text, question) if force else answer.text
        violation = find_violation(draft.request, completion, is_safer)
        if violation is None:
            # Rewritten with the plain line, since a teacher may have put markdown around its own.
            completion = with_conclusion(completion, question)
            attempts = len(draft.reasons) + 1
            draft.result = make_target(draft.request, completion, provider, attempts)
            return

        code = violation.code
        draft.reasons.append(f"{code}: {violation.rule}")
        draft.texts.append(answer.text)
        reply = {"role": "assistant", "content": answer.text}
        draft.messages = (*draft.messages, reply, correction_message(violation.rule))

    if not draft.may_try_again(code):
        draft.result = RejectedTarget(question.id, draft.request.stage, draft.reasons, draft.texts)


def with_conclusion(text: str, question: Question) -> str:
    """Put the gold conclusion line below a text's analysis."""
    return f"{analysis_text(text)}\n{conclusion_line(question.gold)}"


def _forced(text: str, question: Question) -> str:
    """Keep a text's first sentences, and conclude with the gold label."""
    beginning = first_sentences(before_conclusion(text), MAX_SENTENCES)
    return with_conclusion(beginning, question)


def make_target(request: TargetRequest, completion: str, provider: str, attempts: int) -> Target:
    """Make the target that a request asked for, of a completion that broke no rule."""
    return Target(
        question_id=request.question.id,
        stage=request.stage,
        completion=completion,
        weight=request.weight,
        severity=request.severity,
        provider=provider,
        attempts=attempts,
    )
