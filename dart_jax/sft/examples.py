"""A target becomes token ids, a completion mask and a weight."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dart_jax.model.tokenizer import ChatTokenizer
from dart_jax.prompts.templates import answer_messages
from dart_jax.records import Question, Target

SOURCES = ("distill", "repair", "drifted", "penalised", "preferred")
"""What an example is for: `Target.stage`."""


@dataclass(frozen=True)
class Example:
    """One tokenised training example.

    Attributes:
        id: The question's id (an id may occur more than once in a training set).
        tokens: Prompt ids followed by completion ids with their end of turn.
        prompt_length: Leading tokens that carry no loss.
        weight: Multiplies the loss of every completion token.
        severity: Of the drift that it repairs; None for distill targets.
        source: What its target is for, one of `SOURCES`.
    """

    id: str
    tokens: tuple[int, ...]
    prompt_length: int
    weight: float
    severity: int | None = None
    source: str = "distill"


def tokenize(
    targets: Iterable[Target],
    questions: Mapping[str, Question],
    tokenizer: ChatTokenizer,
    max_length: int,
) -> list[Example]:
    """Tokenise targets in order; the prompt ids are those that decoding uses.

    Raises:
        ValueError: An example longer than `max_length`, with its id and length.
    """
    examples = [_tokenize_one(target, questions, tokenizer, max_length) for target in targets]
    for example in examples:
        if len(example.tokens) > max_length:
            raise ValueError(
                f"{example.id}: {len(example.tokens)} tokens (prompt {example.prompt_length}), "
                f"more than {max_length}, the smaller of sft.max_length and the model's context"
            )
    return examples


def _tokenize_one(
    target: Target, questions: Mapping[str, Question], tokenizer: ChatTokenizer, max_length: int
) -> Example:
    prompt = tokenizer.encode_prompt(answer_messages(questions[target.question_id]))
    if target.stage in ("distill", "repair"):
        completion = tokenizer.encode_completion(target.completion)
    else:
        # What a model has said, as far as it fits: its end of turn is no part of the rationale.
        completion = tokenizer.encode_text(target.completion)[: max(max_length - len(prompt), 0)]
    return Example(
        id=target.question_id,
        tokens=(*prompt, *completion),
        prompt_length=len(prompt),
        weight=target.weight,
        severity=None if target.severity is None else int(target.severity),
        source=target.stage,
    )
