"""Label-conditioned targets: a teacher writes them, and those that break a rule go back to it."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from dart_jax.chat.protocol import ChatFailure, ChatModel, ChatReply, ChatRequest, Message
from dart_jax.prompts.conclusion import analysis_text, before_conclusion, conclusion_line
from dart_jax.prompts.planted import asks_for_harm, names_harm
from dart_jax.prompts.templates import correction_message
from dart_jax.records import Question, RejectedTarget, Severity, Target, WeightSpan, digest
from dart_jax.teach.config import TeacherConfig
from dart_jax.teach.quality import (
    MAX_SENTENCES,
    Violation,
    check_copy,
    check_harm,
    check_target,
    first_sentences,
)
from dart_jax.teach.safer import COMPARED, JUDGE_FAILED, NOT_SAFER

TargetResult = Target | RejectedTarget


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
        safer: Who compares the target with `drifted`: scorer, judge or none (`teach.safer`).
        spans: Token weights within the suite's own text; a text by a teacher has none.
    """

    question: Question
    messages: tuple[Message, ...]
    stage: Literal["distill", "repair"]
    weight: float = 1.0
    severity: Severity | None = None
    drifted: str | None = None
    safer: str = "scorer"
    spans: tuple[WeightSpan, ...] = ()

    @property
    def is_judged(self) -> bool:
        """Tell whether the judge compares what is written with the drifted rationale."""
        return self.drifted is not None and self.safer == "judge"


IsSafer = Callable[[TargetRequest, str], bool]
"""Says whether a text scores lower on the audit's harm scorer than the rationale that its request
asks to repair."""

Proposal = tuple[TargetRequest, str]
"""A request, and the completion that a teacher has written for it."""

JudgeRepairs = Callable[[Sequence[Proposal]], Sequence[Violation | None]]
"""Has the audit's judge compare repairs with what they replace, many at once."""


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
        if code == JUDGE_FAILED:
            # Another text would not mend the judge.
            return False
        if code in COMPARED:
            # The fault at hand is among the reasons already.
            return sum(reason.split(":")[0] in COMPARED for reason in self.reasons) == 1
        self.corrections_left -= 1
        return self.corrections_left >= 0

    def settle(self, text: str, completion: str, violation: Violation | None, by: str) -> None:
        """Accept a completion, or note the rule that it breaks and prepare the next attempt.

        Args:
            text: The answer as the teacher wrote it.
            by: The teacher's name.
        """
        if violation is None:
            # Rewritten with the plain line, since a teacher may have put markdown around its own.
            completion = with_conclusion(completion, self.request.question)
            attempts = len(self.reasons) + 1
            self.result = make_target(self.request, completion, by, attempts)
            return

        reply = {"role": "assistant", "content": text}
        self.messages = (*self.messages, reply, correction_message(violation.rule))
        self.fail(violation.code, violation.rule, text)

    def fail(self, code: str, reason: str, text: str) -> None:
        """Note a fault; reject the request where no attempt is left."""
        self.reasons.append(f"{code}: {reason}")
        self.texts.append(text)
        if not self.may_try_again(code):
            request = self.request
            self.result = RejectedTarget(
                request.question.id, request.stage, self.reasons, self.texts
            )


def write_targets(
    requests: Sequence[TargetRequest],
    chat: ChatModel,
    config: TeacherConfig,
    *,
    force_conclusion: bool = False,
    is_safer: IsSafer | None = None,
    judge: JudgeRepairs | None = None,
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
        judge: Compares those that the judge is to decide on, after each round.
        on_result: Called with each result once decided, so that it can be saved at once.

    Returns:
        One result for each request, in the order given.
    """
    drafts = [_Draft(request, request.messages, config.correction_rounds) for request in requests]
    pending = drafts
    while pending:
        by_id = _name_drafts(pending)
        to_judge: list[tuple[_Draft, str, str]] = []

        def keep(draft: _Draft) -> None:
            if draft.result is not None and on_result is not None:
                on_result(draft.result)

        # The defaults bind this round's drafts: the next round replaces the variables.
        def settle(answer: ChatReply | ChatFailure, by_id=by_id, to_judge=to_judge) -> None:
            draft = by_id[answer.id]
            if isinstance(answer, ChatFailure):
                # The messages stay as they are: there is no text to correct.
                draft.fail("request_failed", answer.reason, "")
            else:
                text, question = answer.text, draft.request.question
                completion = _forced(text, question) if force_conclusion else text
                violation = find_violation(draft.request, completion, is_safer)
                if violation is None and judge is not None and draft.request.is_judged:
                    to_judge.append((draft, text, completion))
                else:
                    draft.settle(text, completion, violation, chat.name)
            keep(draft)

        chat_requests = [_chat_request(id, by_id[id], config, force_conclusion) for id in by_id]
        chat.complete(chat_requests, on_result=settle)

        # Not within `settle`: a service cannot be asked while another one is answering.
        proposals = [(draft.request, completion) for draft, _, completion in to_judge]
        violations = judge(proposals) if proposals else []
        for (draft, text, completion), violation in zip(to_judge, violations, strict=True):
            draft.settle(text, completion, violation, chat.name)
            keep(draft)
        pending = [draft for draft in pending if draft.result is None]

    return [draft.result for draft in drafts]


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
    """Return the first rule that a completion breaks; the scorer comes last, if it decides.

    An unlabelled question's text is its own, and breaks none.
    """
    question, turns = request.question, request.messages
    if question.condition is None:
        return None
    # The request's messages: those of a draft also hold the teacher's own rejected texts.
    examples = [turn["content"] for turn in turns if turn["role"] == "assistant"]
    violation = check_target(completion, question) or check_copy(completion, examples)
    if violation is not None or request.drifted is None:
        return violation

    violation = check_harm(completion, question)
    if violation is not None or is_safer is None or request.safer != "scorer":
        return violation
    # A text that names the harm again scores no lower than the one that left it out.
    restores_harm = asks_for_harm(question) and not names_harm(request.drifted)
    is_good = restores_harm or is_safer(request, completion)
    return None if is_good else NOT_SAFER


def find_violations(
    proposals: Sequence[Proposal], is_safer: IsSafer | None, judge: JudgeRepairs | None
) -> list[Violation | None]:
    """Return the first rule that each completion breaks; the judge sees those that break none."""
    violations = [find_violation(request, text, is_safer) for request, text in proposals]
    to_judge = []
    for index, (request, _) in enumerate(proposals):
        if violations[index] is None and judge is not None and request.is_judged:
            to_judge.append(index)

    if to_judge:
        judged = judge([proposals[index] for index in to_judge])
        for index, violation in zip(to_judge, judged, strict=True):
            violations[index] = violation
    return violations


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
