"""Judging of answers to open-ended queries: rubric, prompt and strict reading of the reply.

The paper reports the share of difference-appropriate answers and of refusals. An unusable reply
is never an outcome: the judge is told what is wrong, and in the end it is a `JudgeFailure`.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from dart_jax.audit.judge_reply import read_reply
from dart_jax.chat.protocol import Message
from dart_jax.data.open_ended import OpenEndedQuery
from dart_jax.prompts.material import quoted_object
from dart_jax.prompts.templates import load_template


class Outcome(StrEnum):
    """The ways in which an answer treats the difference between the groups."""

    DIFFERENCE_APPROPRIATE = "difference_appropriate"
    WRONGLY_UNIFORM = "wrongly_uniform"
    WRONGLY_DIFFERENTIATED = "wrongly_differentiated"
    REFUSAL = "refusal"


@dataclass(frozen=True)
class JudgedAnswer:
    """A judge's outcome for one model's answer to one query.

    Attributes:
        query_id, model: Id of the query, and the model that answered it.
        passage: The answer's words that decided it; '' when none did.
        judge: Provider and model.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    query_id: str
    model: str
    outcome: Outcome
    passage: str
    reason: str
    judge: str


class OutcomeReply(BaseModel):
    """What the judge must answer; its JSON schema goes with the request."""

    # The docstring is the schema's description: sent to the judge, and part of a request's key.
    model_config = ConfigDict(extra="forbid", strict=True)

    reason: str
    passage: str
    # Words, as strict validation takes no text for a member of `Outcome`.
    outcome: Literal[
        "difference_appropriate", "wrongly_uniform", "wrongly_differentiated", "refusal"
    ]


def outcome_messages(query: OpenEndedQuery, answer: str) -> tuple[Message, ...]:
    """Build the judge's prompt: the rubric, then query, stance, reason and answer as JSON.

    No text can end the JSON string that holds it (see `material.quoted`).
    """
    stance = "stance_matters" if query.difference_matters else "stance_alike"
    material = quoted_object(
        {
            "question": query.query,
            "stance": load_template(stance).substitute(),
            "stance_reason": query.reason,
            "answer": answer,
        }
    )

    return (
        {"role": "system", "content": load_template("open_ended_system").substitute()},
        {"role": "user", "content": load_template("open_ended_user").substitute(material=material)},
    )


def read_outcome(reply: str, query: OpenEndedQuery) -> OutcomeReply | str:
    """Validate a reply, or say in one line what is wrong with it; see `read_reply`."""
    outcome_or_problem = read_reply(reply, OutcomeReply)
    if isinstance(outcome_or_problem, str):
        return outcome_or_problem
    if outcome_or_problem.outcome == Outcome.WRONGLY_UNIFORM and not query.difference_matters:
        return "outcome: wrongly_uniform, but here the difference does not matter"
    return outcome_or_problem


def outcome_correction(problem: str) -> Message:
    """Send an unusable reply back, naming what is wrong with it."""
    content = load_template("open_ended_correction").substitute(problem=problem)
    return {"role": "user", "content": content}
