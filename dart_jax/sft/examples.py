"""Tokenised training examples: token ids, where the completion begins, and loss weights."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from dart_jax.model.tokenizer import ChatTokenizer
from dart_jax.prompts.templates import answer_messages
from dart_jax.records import Question, Target
from dart_jax.sft.token_weights import token_weights

SOURCES = ("distill", "repair", "drifted", "penalised", "preferred")
"""The purposes of an example: the values of `Target.stage`."""

SMALLEST = 2.0**-126
"""The smallest positive float32 that a device does not flush to 0."""


@dataclass(frozen=True)
class Example:
    """One tokenised training example.

    Attributes:
        id: The question's id (an id may occur more than once in a training set).
        tokens: Prompt ids followed by completion ids with their end of turn.
        prompt_length: Leading tokens that carry no loss.
        weight: Multiplies the loss of every completion token.
        severity: Severity of the drift that it repairs; None for distill targets.
        source: What its target is for, one of `SOURCES`.
        pair: Number, from 1, of the pair that a repair and the drifted text form; 0 for none.
        token_weights: One factor of `weight` for each completion token, end of turn included; a
            token of weight 0 is not supervised. None: all are 1.
    """

    id: str
    tokens: tuple[int, ...]
    prompt_length: int
    weight: float
    severity: int | None = None
    source: str = "distill"
    token_weights: tuple[float, ...] | None = None
    pair: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf:
            raise ValueError(f"{self.id}: weight {self.weight}; give a number from 0")
        if self.token_weights is None:
            return
        count = len(self.tokens) - self.prompt_length
        if len(self.token_weights) != count:
            raise ValueError(
                f"{self.id}: {len(self.token_weights)} token weights for {count} completion tokens"
            )
        if not all(math.isfinite(w) and w >= 0 for w in self.token_weights):
            raise ValueError(f"{self.id}: a token weight is negative or not finite")

    @property
    def is_supervised(self) -> bool:
        """Tell whether any of its tokens has a loss weight that is not 0 in float32."""
        weights = (1.0,) if self.token_weights is None else self.token_weights
        heaviest = self.weight * max(weights, default=0.0)
        return len(self.tokens) > self.prompt_length and heaviest >= SMALLEST

    @property
    def weight_mass(self) -> float:
        """Sum of the loss weights of its completion tokens."""
        if self.token_weights is None:
            return self.weight * (len(self.tokens) - self.prompt_length)
        return self.weight * math.fsum(self.token_weights)


def tokenize(
    targets: Iterable[Target],
    questions: Mapping[str, Question],
    tokenizer: ChatTokenizer,
    max_length: int,
) -> list[Example]:
    """Tokenise targets in order; the prompt ids are those that decoding uses.

    Raises:
        ValueError: An example longer than `max_length`, with its id and length; or one that the
            tokenizer or its chat template does not take, with its id.
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
    id = target.question_id
    prompt = tokenizer.encode_prompt(answer_messages(questions[id]), row=id)
    if target.stage in ("distill", "repair"):
        completion = tokenizer.encode_completion(target.completion, row=id)
    else:
        # A model's own rationale, as far as it fits: its end of turn is no part of it.
        rationale = tokenizer.encode_text(tokenizer.opening + target.completion, row=id)
        completion = rationale[: max(max_length - len(prompt), 0)]

    weights = None
    if target.spans:
        offsets = tokenizer.completion_offsets(target.completion)
        # The offsets are those of a whole turn. A model's own rationale has no end of turn, and may
        # have been cut.
        weights = token_weights(target.spans, offsets[: len(completion)])

    return Example(
        id=id,
        tokens=(*prompt, *completion),
        prompt_length=len(prompt),
        weight=target.weight,
        severity=None if target.severity is None else int(target.severity),
        source=target.stage,
        token_weights=weights,
    )


def pair_up(examples: Sequence[Example]) -> list[Example]:
    """Number the pairs of a repair and the drifted text of its question, for `sft.preference`.

    The n-th repair of a question goes with its n-th drifted text, so that copies pair up one to
    one. A repair without a drifted text stays by itself.

    Raises:
        ValueError: A drifted text has no repair.
    """
    drifted: dict[str, list[int]] = defaultdict(list)
    for index, example in enumerate(examples):
        if example.source == "drifted":
            drifted[example.id].append(index)

    paired = list(examples)
    pair = 0
    for index, example in enumerate(examples):
        if example.source == "repair" and drifted[example.id]:
            pair += 1
            for member in (index, drifted[example.id].pop(0)):
                paired[member] = replace(examples[member], pair=pair)

    # By itself it would be learnt, as any other target is.
    left_over = [id for id, indices in drifted.items() if indices]
    if left_over:
        raise ValueError(f"{left_over[0]}: a drifted text without a repair to compare it with")
    return paired


def members_of_pairs(examples: Sequence[Example]) -> list[list[int]]:
    """List, for each example, the indices of its pair in order; without a pair, its own alone."""
    members: dict[int, list[int]] = defaultdict(list)
    for index, example in enumerate(examples):
        members[example.pair].append(index)
    return [
        members[example.pair] if example.pair else [index] for index, example in enumerate(examples)
    ]
