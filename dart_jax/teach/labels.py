"""Predicted labels: the teacher's own conclusion in place of the gold label (paper, ablation).

The ablation measures DART where nobody knows the labels. The teacher then gets the bare question,
with the same prompt as the models under training, and its conclusion is the label that its
rationales argue for. The paper could also mean the untrained model's conclusions; but its 64.1 %
with predicted labels is out of reach of labels of which 39.0 % are right, M0's accuracy.

A question without a predicted label gets no target: it is rejected, and counted, as `no_label`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from dart_jax.chat.protocol import ChatFailure, ChatModel, ChatReply, ChatRequest, Message
from dart_jax.prompts.conclusion import conclusion_line, parse_conclusion
from dart_jax.prompts.templates import answer_messages
from dart_jax.records import Condition, Decision, PredictedLabel, Question, RejectedTarget
from dart_jax.teach.config import TeacherConfig

_BATCH = 16
"""Number of prompts that a local teacher scores at once."""

OnLabel = Callable[[PredictedLabel], None]


@dataclass(frozen=True)
class LabelSummary:
    """Comparison of predicted labels with gold.

    Attributes:
        questions: Number of questions whose label was asked for.
        no_label: Number of those that got none.
        agreement: Share of predicted labels that are right, in [0, 1]; None where no question has a
            gold label.
    """

    questions: int
    no_label: int
    agreement: float | None


def ask_labels(
    questions: Sequence[Question], chat: ChatModel, config: TeacherConfig, on_result: OnLabel
) -> None:
    """Have a teacher answer the bare questions; a label is its parsed conclusion.

    A failed request is sent again, up to `config.correction_rounds` times. An answer without a
    conclusion is final.
    """
    waiting = {question.id: question for question in questions}
    # Down to 0: in the last round a failure is final.
    for rounds_left in range(config.correction_rounds, -1, -1):
        failed: set[str] = set()

        # The defaults bind this round's values: the next round replaces the variables.
        def settle(answer: ChatReply | ChatFailure, rounds_left=rounds_left, failed=failed) -> None:
            if isinstance(answer, ChatFailure) and rounds_left:
                failed.add(answer.id)
            else:
                on_result(_label(answer, chat.name))

        if waiting:
            requests = [_request(question, config) for question in waiting.values()]
            chat.complete(requests, on_result=settle)

        waiting = {id: question for id, question in waiting.items() if id in failed}


def likely_labels(
    questions: Sequence[Question],
    score: Callable[[list[tuple[Message, ...]], list[str]], Float[np.ndarray, "prompts 2"]],
    provider: str,
    on_result: OnLabel,
) -> None:
    """Label each question by the conclusion line that a model finds likelier as the whole answer.

    This is for local teachers, which are too small to write a conclusion line unasked.

    Args:
        score: Log-probabilities of each continuation after each prompt; a row of NaN where the
            prompt is too long.
    """
    # In the order of `Decision`, by which `_likelier` reads the scores.
    lines = [conclusion_line(decision) for decision in Decision]
    for start in range(0, len(questions), _BATCH):
        batch = questions[start : start + _BATCH]
        scores = score([answer_messages(question) for question in batch], lines)
        for question, row in zip(batch, scores, strict=True):
            on_result(_likelier(question.id, row, provider))


def with_labels(
    questions: Iterable[Question], labels: Iterable[PredictedLabel]
) -> tuple[list[Question], dict[str, str]]:
    """Replace the questions' gold labels by predicted ones.

    Only the teacher's prompts and the check of its targets may see these questions.

    Returns:
        `(labelled, reasons)`: the questions that have a predicted label, in their order; and for
        each other one, by id, the reason why it has none.
    """
    by_id = {label.question_id: label for label in labels}
    labelled, reasons = [], {}
    for question in questions:
        label = by_id[question.id]
        if label.decision is None:
            reasons[question.id] = label.reason
        else:
            condition = Condition.DIFF if label.decision is Decision.YES else Condition.EQUAL
            labelled.append(replace(question, condition=condition))
    return labelled, reasons


def without_label(question_id: str, stage: str, reason: str) -> RejectedTarget:
    """Make the rejected target of a question that got no label."""
    # One text for each reason, though nobody wrote any.
    return RejectedTarget(question_id, stage, [f"no_label: {reason}"], [""])


def label_summary(questions: Iterable[Question], labels: Iterable[PredictedLabel]) -> LabelSummary:
    """Compare the predicted labels with gold; for the report only.

    Args:
        questions: The questions whose label was asked for.
    """
    gold = {question.id: question.gold for question in questions}
    predicted = [label for label in labels if label.decision is not None]
    comparable = [label for label in predicted if gold[label.question_id] is not None]
    right = sum(label.decision is gold[label.question_id] for label in comparable)
    return LabelSummary(
        questions=len(gold),
        no_label=len(gold) - len(predicted),
        agreement=right / len(comparable) if comparable else None,
    )


def _request(question: Question, config: TeacherConfig) -> ChatRequest:
    messages = answer_messages(question)
    return ChatRequest(question.id, messages, config.temperature, config.max_tokens)


def _likelier(question_id: str, row: np.ndarray, provider: str) -> PredictedLabel:
    # A tie decides nothing, and a prompt that is too long has no score.
    if not np.isfinite(row).all() or row[0] == row[1]:
        return PredictedLabel(question_id, None, "neither conclusion is likelier", provider)
    return PredictedLabel(question_id, tuple(Decision)[int(row.argmax())], None, provider)


def _label(answer: ChatReply | ChatFailure, provider: str) -> PredictedLabel:
    if isinstance(answer, ChatFailure):
        return PredictedLabel(answer.id, None, f"request failed: {answer.reason}", provider)
    decision, problem = parse_conclusion(answer.text)
    return PredictedLabel(answer.id, decision, problem, provider)
