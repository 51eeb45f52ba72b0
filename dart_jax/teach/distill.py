"""Stage I: what the teacher is asked for, given question and gold label."""

from collections.abc import Iterable, Mapping

from dart_jax.data.custom_dataset import CustomItem
from dart_jax.data.mini_suite import MiniItem, load_mini
from dart_jax.prompts.conclusion import conclusion_line
from dart_jax.prompts.templates import Message, distill_messages
from dart_jax.records import Question, digest
from dart_jax.teach.writer import TargetRequest


def distill_requests(
    questions: Iterable[Question],
    examples: int = 0,
    own: Mapping[str, CustomItem] | None = None,
) -> list[TargetRequest]:
    """One request a question, at weight 1 (paper, stage I) unless own data says otherwise.

    For an unlabelled question there is nothing to ask a teacher: its messages are empty.

    Args:
        examples: Worked examples in front of each question, from the mini suite: the same
            family and label, never the question itself.
        own: What own data says of a question, by its id.
    """
    items = load_mini() if examples else []
    requests = []
    for question in questions:
        asked = () if question.condition is None else _with_examples(question, items, examples)
        row = (own or {}).get(question.id)
        weight, spans = (1.0, ()) if row is None else (row.weight, row.spans)
        requests.append(TargetRequest(question, asked, "distill", weight, spans=spans))
    return requests


def _with_examples(question: Question, items: list[MiniItem], examples: int) -> tuple[Message, ...]:
    system, asked = distill_messages(question)
    shown: list[Message] = []
    for item in _similar(question, items)[:examples]:
        answer = f"{item.rationale}\n{conclusion_line(item.question.gold)}"
        shown += [distill_messages(item.question)[1], {"role": "assistant", "content": answer}]
    return (system, *shown, asked)


def _similar(question: Question, items: list[MiniItem]) -> list[MiniItem]:
    """Items of the question's family and label, in an order that differs by question."""
    same = [
        item
        for item in items
        if item.question.benchmark == question.benchmark
        and item.question.condition is question.condition
        and item.question.id != question.id
    ]
    return sorted(same, key=lambda item: digest([question.id, item.question.id]))
