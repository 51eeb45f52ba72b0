"""A teacher by rule: targets from the gold label and the words of the question itself.

It writes the right form and the question's own facts (its groups, its year, its item, the words of
its case); it knows nothing of the world. `reading` finds the words, and `prompts/text/rules/` holds
the phrasings, four for each form of question. The phrasings of the two labels begin with the same
sentence, which says what the decision depends on. So a model that learns them names what matters
first, and decides after.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from string import Template

from dart_jax.prompts.planted import asks_for_harm
from dart_jax.prompts.templates import TEXTS, load_template
from dart_jax.records import Question, RejectedTarget, digest
from dart_jax.teach.reading import Unreadable, read_question
from dart_jax.teach.writer import (
    IsSafer,
    JudgeRepairs,
    TargetRequest,
    TargetResult,
    find_violations,
    make_target,
    with_conclusion,
)

RULE_TEXTS = TEXTS / "rules"
"""Folder of the phrasings, one file for each form of question, and of the word lists."""


@dataclass(frozen=True)
class _Form:
    """How to write about one form of question.

    Attributes:
        harm: The sentence that names what a wrong treatment would do.
        phrasings: Rationales by condition; each is an opening and what follows for that label.
    """

    harm: str
    phrasings: dict[str, tuple[Template, ...]]


@dataclass
class _Draft:
    """A request, the completions that are still to be tried, and what came of the others."""

    request: TargetRequest
    untried: list[str]
    reasons: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    result: TargetResult | None = None

    def reject(self) -> None:
        """Give up, with all reasons."""
        id, stage = self.request.question.id, self.request.stage
        self.result = RejectedTarget(id, stage, self.reasons, self.texts)


def rule_targets(
    requests: Sequence[TargetRequest],
    is_safer: IsSafer | None = None,
    judge: JudgeRepairs | None = None,
) -> list[TargetResult]:
    """Write targets by rule, under the same quality control as every other teacher.

    A distill target is in the question's first phrasing. A repair is in the first of the others
    that breaks no rule, so that it is never the text of the distill target.

    Args:
        requests: Requests of either stage for labelled questions; their messages are not used.
        is_safer, judge: As for `writer.write_targets`.

    Returns:
        One result for each request, in their order. A question that the rules cannot read is a
        `RejectedTarget` of code `unreadable`, which names the missing part.
    """
    drafts = [_draft(request) for request in requests]
    pending = [draft for draft in drafts if draft.result is None]
    while pending:
        texts = [draft.untried.pop(0) for draft in pending]
        completions = []
        for draft, text in zip(pending, texts, strict=True):
            completions.append(with_conclusion(text, draft.request.question))

        # All at once, since a judge is asked about many pairs faster than about one after another.
        proposals = [
            (d.request, completion) for d, completion in zip(pending, completions, strict=True)
        ]
        violations = find_violations(proposals, is_safer, judge)
        for draft, text, completion, violation in zip(
            pending, texts, completions, violations, strict=True
        ):
            if violation is None:
                draft.result = make_target(draft.request, completion, provider="rules", attempts=0)
                continue
            draft.reasons.append(f"{violation.code}: {violation.rule}")
            draft.texts.append(text)
            if not draft.untried:
                draft.reject()
        pending = [draft for draft in pending if draft.result is None]

    return [draft.result for draft in drafts]


def rationales(question: Question) -> list[str]:
    """Write a rationale for the gold label in each phrasing, without conclusion line.

    They begin at a phrasing that a hash of the question's id chooses. Where the question asks for
    the harm at stake, each ends with `harm_sentence`.

    Raises:
        Unreadable: The question lacks a part; the message names it.
    """
    reading = read_question(question)
    form = _load_form(reading.form)
    label = "unlabelled" if question.condition is None else question.condition.value
    if label not in form.phrasings:
        raise Unreadable(f"no question of the form {reading.form} is {label}")

    ending = f" {form.harm}" if asks_for_harm(question) else ""
    texts = []
    for phrasing in form.phrasings[label]:
        texts.append(phrasing.substitute(reading.fields) + ending)

    first = int(digest(["phrasing", question.id]), 16) % len(texts)
    return texts[first:] + texts[:first]


def harm_sentence(question: Question) -> str:
    """Name what a wrong treatment would do in a question's family: "The harm at stake is ...".

    Raises:
        Unreadable: The question lacks a part; the message names it.
    """
    return _load_form(read_question(question).form).harm


def _draft(request: TargetRequest) -> _Draft:
    """Write the texts that may be tried: a distill target's first phrasing, a repair's others."""
    try:
        texts = rationales(request.question)
    except Unreadable as error:
        draft = _Draft(request, [], [f"unreadable: {error}"], [""])
        draft.reject()
        return draft
    return _Draft(request, texts[:1] if request.stage == "distill" else texts[1:])


@cache
def _load_form(name: str) -> _Form:
    """Read `prompts/text/rules/<name>.txt`: the harm, then a block for each phrasing.

    A block has a line `opening` and the lines `diff` and `equal` with what follows it. A form that
    the suite has with one label only lacks the line of the other.
    """
    harm, *blocks = load_template(f"rules/{name}").template.split("\n\n")
    phrasings: dict[str, tuple[Template, ...]] = {}
    for block in blocks:
        opening, *endings = block.splitlines()
        for ending in endings:
            label, _, rest = ending.partition(": ")
            phrasing = Template(f"{opening.removeprefix('opening: ')} {rest}")
            phrasings[label] = (*phrasings.get(label, ()), phrasing)
    return _Form(harm.removeprefix("harm: "), phrasings)
