"""Stage I: what the teacher is asked for, given question and gold label."""

from collections.abc import Iterable

from dart_jax.prompts.templates import distill_messages
from dart_jax.records import Question
from dart_jax.teach.writer import TargetRequest


def distill_requests(questions: Iterable[Question]) -> list[TargetRequest]:
    """One request a question, at weight 1 (paper, stage I)."""
    return [
        TargetRequest(question, distill_messages(question), "distill") for question in questions
    ]
