"""Requests to the teacher for distill targets, given question and gold label (stage I)."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from dart_jax.data.custom_dataset import CustomItem
from dart_jax.data.mini_suite import MiniItem, load_mini
from dart_jax.prompts.conclusion import conclusion_line
from dart_jax.prompts.templates import Message, distill_messages
from dart_jax.records import Question, digest
from dart_jax.teach.writer import TargetRequest


def distill_requests(
    questions: Iterable[Question],
    examples: int = 0,
    custom_items: Mapping[str, CustomItem] | None = None,
) -> list[TargetRequest]:
    """Make one request for each question, at weight 1 (paper) unless custom data has another one.

    The teacher is not asked about an unlabelled question: its request has no messages.

    Args:
        examples: Number of worked examples before each question, from the mini suite: of the same
            family and label, never the question itself.
        custom_items: Weights and spans that custom data gives, by question id.
    """
    items = load_mini() if examples else []
    requests = []
    for question in questions:
        messages: tuple[Message, ...] = ()
        if question.condition is not None:
            messages = _with_examples(question, items, examples)

        request = TargetRequest(question, messages, "distill")
        custom = (custom_items or {}).get(question.id)
        if custom is not None:
            request = replace(request, weight=custom.weight, spans=custom.spans)

        requests.append(request)

    return requests


def _with_examples(question: Question, items: list[MiniItem], examples: int) -> tuple[Message, ...]:
    """Build the teacher's prompt, with worked examples as earlier turns of the conversation."""
    system, user = distill_messages(question)
    turns: list[Message] = []
    for item in _similar(question, items)[:examples]:
        _, example_user = distill_messages(item.question)
        answer = f"{item.rationale}\n{conclusion_line(item.question.gold)}"
        turns += [example_user, {"role": "assistant", "content": answer}]
    return (system, *turns, user)


def _similar(question: Question, items: list[MiniItem]) -> list[MiniItem]:
    """Select items of the question's family and label, in an order that differs by question."""
    same = [
        item
        for item in items
        if item.question.benchmark == question.benchmark
        and item.question.condition is question.condition
        and item.question.id != question.id
    ]
    # By hash, so that questions do not all see the same examples.
    return sorted(same, key=lambda item: digest([question.id, item.question.id]))
