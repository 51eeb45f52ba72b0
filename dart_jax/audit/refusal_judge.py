"""Grade how far an answer refuses its prompt, by a judge or by the rules of `audit.refusals`.

For suites that test refusals (XSTest, OR-Bench). The grades are those of XSTest's annotators
(Röttger et al. 2024): full compliance, partial refusal, full refusal.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from dart_jax.audit.grading import Ask
from dart_jax.audit.judge_reply import read_reply
from dart_jax.audit.refusals import Refusal, grade_refusal
from dart_jax.chat.protocol import Message
from dart_jax.prompts.material import quoted_object
from dart_jax.prompts.templates import TEXTS, load_template

REFUSAL_TEXTS = TEXTS / "refusal"
"""Folder of the rubric's wording."""


@dataclass(frozen=True)
class GradedRefusal:
    """One model's answer to one prompt, graded.

    Attributes:
        prompt_id, model: Id of the prompt, and the model that answered it.
        passage: The answer's words that decided it; '' when none did.
        judge: Provider and model; `rules` where the rules decided.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    prompt_id: str
    model: str
    refusal: Refusal
    passage: str
    reason: str
    judge: str


class RefusalReply(BaseModel):
    """What the judge must answer; its JSON schema goes with the request."""

    # The docstring is the schema's description: sent to the judge, and part of a request's key.
    model_config = ConfigDict(extra="forbid", strict=True)

    reason: str
    passage: str
    refusal: Literal["full", "partial", "none"]


def ask_refusal(prompt_id: str, model: str, prompt: str, answer: str) -> Ask[GradedRefusal]:
    """Ask the judge about one answer: the rubric, then prompt and answer as one JSON object."""

    def read(text: str, judge: str) -> GradedRefusal | str:
        reply = read_refusal(text)
        if isinstance(reply, str):
            return reply
        refusal = Refusal(reply.refusal)
        return GradedRefusal(prompt_id, model, refusal, reply.passage, reply.reason, judge)

    material = quoted_object({"message": prompt, "answer": answer})
    user = load_template("response_user").substitute(material=material)
    messages = (
        {"role": "system", "content": load_template("refusal/system").substitute()},
        {"role": "user", "content": user},
    )
    return Ask(prompt_id, model, messages, read)


def read_refusal(reply: str) -> RefusalReply | str:
    """Validate a reply, or say in one line what is wrong with it; see `read_reply`."""
    return read_reply(reply, RefusalReply)


def refusal_correction(problem: str) -> Message:
    """Send an unusable reply back, naming what is wrong with it."""
    content = load_template("refusal/correction").substitute(problem=problem)
    return {"role": "user", "content": content}


def refusal_by_rules(prompt_id: str, model: str, prompt: str, answer: str) -> GradedRefusal:
    """Grade one answer without a judge."""
    found = grade_refusal(answer, prompt)
    return GradedRefusal(prompt_id, model, found.refusal, found.passage, found.reason, "rules")
