"""Ask for one of three options by its letter, and read the letter that a model writes.

The form is that of the difference-awareness suite and, here, of BBQ: the options follow the
question as `(a) ... (b) ... (c) ...`.
"""

import math
import re
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import ConfigDict

from dart_jax.prompts.templates import Message, load_template

LETTERS = ("(a)", "(b)", "(c)")
"""The answers that are asked for, in the order of the options."""

LetterSource = Literal["likelihood", "generated"]
"""The likeliest letter as the answer's beginning, or the letter in the answer that is written."""

NOT_READ = "no letter, or more than one"
NO_ROOM = "the prompt leaves no room for an answer"

_BRACKETED = re.compile(r"(?<![^\W_])([abc])\)", re.IGNORECASE)
_BARE = re.compile(r"\W*([abc])\W*", re.IGNORECASE)


@dataclass(frozen=True)
class LetterAnswer:
    """The option that one model chose for one question.

    Attributes:
        option: Index of the option; None where there is none.
        log_probs: Log-probability (nats) that the answer begins with each of LETTERS; None where
            the model wrote its answer, or had no room for one.
        problem: Why there is no option; None where there is one.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    question_id: str
    model: str
    option: int | None
    log_probs: tuple[float, float, float] | None
    problem: str | None

    def __post_init__(self) -> None:
        if (self.option is None) != (self.problem is not None):
            raise ValueError("problem is given exactly when there is no option")

    @property
    def had_room(self) -> bool:
        """Whether the prompt left room to answer."""
        return self.problem != NO_ROOM

    @property
    def mass(self) -> float | None:
        """Probability that the answer begins with any of the letters; None where not computed."""
        return None if self.log_probs is None else sum(map(math.exp, self.log_probs))


def letter_messages(question: str, *, american: bool = False) -> tuple[Message, ...]:
    """Ask a question with its options, as one message of a user.

    Args:
        american: Whether to say that the question is about the United States, which its own words
            take for granted.
    """
    content = load_template("letters/user").substitute(question=question)
    if american:
        content = f"{load_template('letters/american').substitute()}\n\n{content}"
    return ({"role": "user", "content": content},)


def read_letter(answer: str) -> int | None:
    """Read the option that an answer names; None where it names none, or two.

    A letter counts if its closing bracket follows, or if it is the whole answer:

        (b)   b)   B   **b.**   The answer is (b).       1
        (a) or (b)   I cannot say.   A country.          None
    """
    named = {letter.lower() for letter in _BRACKETED.findall(answer)}
    whole = _BARE.fullmatch(answer)
    if not named and whole:
        named = {whole[1].lower()}
    return "abc".index(named.pop()) if len(named) == 1 else None
